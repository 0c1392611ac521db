// The function of a chunk, its calls, and what joins their results.
#include <fmt/format.h>

#include <algorithm>

#include "passes/chunk.h"

namespace gradc::chunking {
namespace {

class Writer {
 public:
  Writer(Program& program, const Function& f, const Part& part, Function& out)
      : program_(program),
        f_(f),
        part_(part),
        to_(program, out),
        copy_(f, to_),
        kept_(part.kept.size()) {
    for (OpId o : part.ops) loc_ = program.unite(loc_, f.op(o).loc);
  }

  void run(std::vector<OpId>& others) {
    copy_.arguments();
    const std::vector<char> later = waits(), read = is_read();
    // Calls stand behind the last operation that makes something for them.
    std::size_t last = 0;
    const std::vector<OpId>& body = f_.body().ops;
    std::vector<char> input(f_.values.size(), 0);
    for (ValueId v : part_.inputs) input[v.index] = 1;
    for (std::size_t n = 0; n < body.size(); ++n)
      for (ValueId v : f_.op(body[n]).results)
        if (input[v.index]) last = n + 1;
    const auto copy_some = [&](std::size_t from, std::size_t to, bool waiting) {
      for (std::size_t n = from; n < to; ++n)
        if (read[body[n].index] && (later[body[n].index] != 0) == waiting) copy_.clone(body[n]);
    };
    copy_some(0, last, false);
    call_all();
    copy_some(0, last, true);
    for (std::size_t n = last; n < body.size(); ++n)
      if (read[body[n].index]) copy_.clone(body[n]);
    std::vector<ValueId> results;
    for (ValueId v : f_.body().results) results.push_back(copy_(v));
    std::vector<OpId> there;
    for (OpId o : others)
      if (!part_.inside[o.index])
        there.push_back(to_.function().value(copy_(f_.op(o).results[0])).def);
    others = std::move(there);
    to_.finish(results, f_.result_names);
  }

 private:
  // What stays outside, but for what only the part reads and makes for itself.
  std::vector<char> is_read() const {
    std::vector<char> again(f_.ops.size(), 0), wanted(f_.values.size(), 0), out(f_.ops.size(), 0);
    for (OpId o : part_.ops) again[o.index] = !part_.inside[o.index];
    for (ValueId v : part_.inputs) wanted[v.index] = 1;
    for (ValueId v : f_.body().results) wanted[v.index] = 1;
    const std::vector<OpId>& body = f_.body().ops;
    for (auto o = body.rbegin(); o != body.rend(); ++o) {
      if (part_.inside[o->index]) continue;
      const Op& op = f_.op(*o);
      out[o->index] = !again[o->index] || std::any_of(op.results.begin(), op.results.end(),
                                                      [&](ValueId v) { return wanted[v.index]; });
      if (out[o->index])
        for (ValueId v : op.operands) wanted[v.index] = 1;
    }
    return out;
  }

  // What needs a result of the part.
  std::vector<char> waits() const {
    std::vector<char> out(f_.ops.size(), 0);
    for (OpId o : f_.body().ops)
      for (ValueId v : f_.op(o).operands)
        if (const OpId def = f_.value(v).def;
            def.valid() && (part_.inside[def.index] || out[def.index]))
          out[o.index] = 1;
    return out;
  }

  // ---- the function of a chunk

  // A type with `step` rows along the sliced axis; the picked ones are gone.
  Type sliced(Cloner& map, const Type& t) const {
    Type out{t.dtype, {}};
    for (AxisId a : t.axes)
      if (!part_.cut.picked.contains(a)) out.axes.push_back(map(a));
    return out;
  }

  FunctionId function(std::int64_t step, bool adds) {
    const std::string wish =
        fmt::format("{}.head{}{}", program_.text(f_.name), adds ? "" : ".first",
                    step == part_.cut.step ? "" : ".last");
    Function made{.name = program_.intern(program_.unique_function_name(
                      part_.summed.empty() && step == part_.cut.step
                          ? fmt::format("{}.head", program_.text(f_.name))
                          : wish))};
    Builder to(program_, made);
    Cloner map(f_, to);
    map.map_axis(part_.cut.sliced, to.axis(program_.text(f_.axis(part_.cut.sliced).name), step));
    for (ValueId v : part_.inputs)
      map.map(v, to.argument(sliced(map, f_.type(v)), program_.text(f_.value(v).name)));
    std::vector<ValueId> sums;
    if (adds)
      for (ValueId v : part_.summed) sums.push_back(to.argument(sliced(map, f_.type(v)), "sum"));
    for (OpId o : part_.ops) {
      const Op& op = f_.op(o);
      to.at = op.loc;
      std::vector<ValueId> operands;
      for (ValueId v : op.operands) operands.push_back(map(v));
      Attr attr = op.attr;
      std::erase_if(attr.axes, [&](AxisId a) { return part_.cut.picked.contains(a); });
      const ValueId v = to.add(op.code, operands, map(attr), sliced(map, f_.type(op.results[0])));
      to.name(v, program_.text(f_.value(op.results[0]).name));
      map.map(op.results[0], v);
    }
    std::vector<ValueId> results;
    for (ValueId v : part_.kept) results.push_back(map(v));
    for (std::size_t i = 0; i < part_.summed.size(); ++i) {
      const ValueId own = map(part_.summed[i]);
      to.at = f_.op(f_.value(part_.summed[i]).def).loc;
      results.push_back(adds ? to.add(Opcode::add_, {sums[i], own}, {}, to.type(own)) : own);
    }
    to.finish(results);
    program_.functions.push_back(std::move(made));
    return FunctionId{static_cast<std::uint32_t>(program_.functions.size() - 1)};
  }

  FunctionId callee(std::int64_t step, bool adds) {
    for (const auto& [s, a, f] : functions_)
      if (s == step && a == adds) return f;
    const FunctionId f = function(step, adds);
    functions_.push_back({step, adds, f});
    return f;
  }

  // ---- calls

  AxisId slice_axis(std::int64_t step) {
    AxisId& a = step == part_.cut.step ? whole_ : rest_;
    if (!a.valid()) a = to_.fresh_axis(program_.text(f_.axis(part_.cut.sliced).name), step);
    return a;
  }

  // One chunk: its place along each picked axis, and from where on along the sliced one.
  void call(const std::vector<std::int64_t>& picked, std::int64_t from, std::int64_t step) {
    const AxisId rows = slice_axis(step);
    std::vector<ValueId> operands;
    for (ValueId v : part_.inputs) {
      ValueId x = copy_(v);
      for (std::size_t i = 0; i < picked.size(); ++i)
        if (const AxisId a = part_.cut.picked[static_cast<int>(i)]; f_.type(v).axes.contains(a))
          x = to_.add(Opcode::pick_, {x}, {.integer = picked[i], .from = copy_(a)});
      if (f_.type(v).axes.contains(part_.cut.sliced))
        x = to_.add(Opcode::slice_, {x},
                    {.integer = from, .from = copy_(part_.cut.sliced), .to = rows});
      operands.push_back(x);
    }
    const bool adds = !sums_.empty();
    operands.insert(operands.end(), sums_.begin(), sums_.end());
    std::vector<Type> types;
    for (ValueId v : part_.kept) {
      Type t = copy_(f_.type(v));
      for (AxisId a : part_.cut.picked) t.axes = t.axes.without(copy_(a));
      t.axes = t.axes.replaced(copy_(part_.cut.sliced), rows);
      types.push_back(t);
    }
    for (ValueId v : part_.summed) types.push_back(copy_(f_.type(v)));
    const std::vector<ValueId> made = to_.add_multi(
        Opcode::call_, operands, {.callee = callee(step, adds || part_.summed.empty())}, types);
    for (std::size_t i = 0; i < part_.kept.size(); ++i) kept_[i].push_back(made[i]);
    sums_.assign(made.begin() + static_cast<std::ptrdiff_t>(part_.kept.size()), made.end());
  }

  void call_all() {
    to_.at = loc_;
    std::vector<std::int64_t> at(static_cast<std::size_t>(part_.cut.picked.size()), 0);
    const std::int64_t extent = f_.extent(part_.cut.sliced);
    const auto next = [&] {
      for (std::size_t i = at.size(); i-- > 0; at[i] = 0)
        if (++at[i] < f_.extent(part_.cut.picked[static_cast<int>(i)])) return true;
      return false;
    };
    do {
      for (std::int64_t from = 0; from < extent; from += part_.cut.step)
        call(at, from, std::min(part_.cut.step, extent - from));
    } while (next());
    for (std::size_t i = 0; i < part_.kept.size(); ++i) join(part_.kept[i], std::move(kept_[i]));
    for (std::size_t i = 0; i < sums_.size(); ++i) define(part_.summed[i], sums_[i]);
  }

  // The chunks of a result, along the sliced axis first, then along the picked ones, inner to
  // outer.
  void join(ValueId v, std::vector<ValueId> parts) {
    const Type whole = copy_(f_.type(v));
    AxisList axes = whole.axes;
    for (AxisId a : part_.cut.picked) axes = axes.without(copy_(a));
    const auto joined = [&](AxisId along, std::size_t count) {
      std::vector<ValueId> made;
      for (std::size_t n = 0; n < parts.size(); n += count) {
        Attr attr{.to = along};
        for (std::size_t i = 0; i < count; ++i) {
          AxisId piece;
          for (AxisId a : {whole_, rest_})
            if (a.valid() && to_.type(parts[n + i]).axes.contains(a)) piece = a;
          attr.axes.push_back(piece);
        }
        made.push_back(to_.add(Opcode::concat_, std::span(parts).subspan(n, count), attr,
                               {whole.dtype, axes}));
      }
      parts = std::move(made);
    };
    const auto slices = static_cast<std::size_t>(
        (f_.extent(part_.cut.sliced) + part_.cut.step - 1) / part_.cut.step);
    joined(copy_(part_.cut.sliced), slices);
    for (int i = part_.cut.picked.size(); i-- > 0;) {
      const AxisId along = copy_(part_.cut.picked[i]);
      AxisList wider;  // in the order of the whole
      for (AxisId a : whole.axes)
        if (a == along || axes.contains(a)) wider.push_back(a);
      axes = wider;
      joined(along, static_cast<std::size_t>(f_.extent(part_.cut.picked[i])));
    }
    define(v, parts[0]);
  }

  void define(ValueId v, ValueId made) {
    copy_.map(v, made);
    to_.name(made, program_.text(f_.value(v).name));
  }

  struct Made {
    std::int64_t step;
    bool adds;
    FunctionId function;
  };
  Program& program_;
  const Function& f_;
  const Part& part_;
  Builder to_;
  Cloner copy_;
  LocId loc_;            // of all that is inside
  AxisId whole_, rest_;  // rows of a chunk, of the last one
  std::vector<Made> functions_;
  std::vector<std::vector<ValueId>> kept_;  // by result: of each chunk
  std::vector<ValueId> sums_;               // so far
};

}  // namespace

Function write_part(Program& program, const Function& f, const Part& part,
                    std::vector<OpId>& others) {
  Function out{.name = f.name};
  Writer(program, f, part, out).run(others);
  return out;
}

}  // namespace gradc::chunking
