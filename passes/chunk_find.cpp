// What runs together in a chunk: the operations that touch a value of the logits' size, and those
// between them.
#include <fmt/format.h>

#include <algorithm>

#include "passes/chunk.h"
#include "passes/group.h"

namespace gradc::chunking {
namespace {

bool disjoint(const AxisList& a, const AxisList& b) {
  return std::none_of(a.begin(), a.end(), [&](AxisId x) { return b.contains(x); });
}

// Which of the contraction's operands is the matrix. −1: there are axes that both have and the
// result keeps, so that neither is.
int matrix_of(const Function& f, const Op& op) {
  const AxisList& result = f.type(op.results[0]).axes;
  const AxisList& a = f.type(op.operands[0]).axes;
  const AxisList& b = f.type(op.operands[1]).axes;
  for (AxisId x : result)
    if (a.contains(x) && b.contains(x)) return -1;
  // A vocabulary may be larger than a batch or smaller; but parameters are arguments.
  const auto given = [&](ValueId v) {
    const OpId def = f.value(v).def;
    return !def.valid() ||
           (f.op(def).code == Opcode::cast_ && !f.value(f.op(def).operands[0]).def.valid());
  };
  if (given(op.operands[1]) != given(op.operands[0])) return given(op.operands[1]) ? 1 : 0;
  return f.elements(f.type(op.operands[1])) >= f.elements(f.type(op.operands[0])) ? 1 : 0;
}

// Runs once a chunk of rows as it runs once: every element of the result is of the row that it is
// computed from.
bool row_wise(const Function& f, const Op& op, const AxisList& cut) {
  if (op.results.size() != 1 || !f.type(op.results[0]).axes.contains_all(cut)) return false;
  const auto elsewhere = [&](const AxisList& axes) { return disjoint(axes, cut); };
  AxisList named;
  for (AxisId a : op.attr.axes)
    if (a.valid() && !named.contains(a)) named.push_back(a);
  if (op.attr.from.valid() && !named.contains(op.attr.from)) named.push_back(op.attr.from);
  if (op.attr.to.valid() && !named.contains(op.attr.to)) named.push_back(op.attr.to);
  switch (facts(op.code).kind) {
    case Kind::unary:
    case Kind::binary:
    case Kind::ternary:
    case Kind::contract:
      return true;
    case Kind::view:
    case Kind::reduce:
      return elsewhere(named);
    case Kind::read:
      return elsewhere(named) &&
             (op.code != Opcode::concat_ ||
              std::all_of(op.operands.begin(), op.operands.end(),
                          [&](ValueId v) { return f.type(v).axes.contains_all(cut); }));
    case Kind::source:
    case Kind::control:
      return false;
  }
  return false;
}

// A sum over all rows, to be added up chunk by chunk.
bool row_sum(const Function& f, const Op& op, const AxisList& cut) {
  if (op.code != Opcode::sum_ && op.code != Opcode::contract_) return false;
  return disjoint(f.type(op.results[0]).axes, cut) &&
         std::all_of(op.operands.begin(), op.operands.end(),
                     [&](ValueId v) { return f.type(v).axes.contains_all(cut); });
}

// A rounded copy of a large argument (a table's in bf16), which the kernels that read it round for
// themselves rather than keep.
bool is_rounded_argument(const Function& f, const Op& op) {
  return op.code == Opcode::cast_ && !f.value(op.operands[0]).def.valid() &&
         f.elements(f.type(op.results[0])) >= grouping::most_copied;
}

// Made of constants and positions alone, each row as every other; or of an argument, for less than
// handing it on would cost.
std::vector<char> made_again(const Function& f, const AxisList& cut) {
  std::vector<char> free(f.ops.size(), 0);
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    const bool source =
        op.code == Opcode::constant_ ||
        (op.code == Opcode::position_ && op.operands.empty() && !cut.contains(op.attr.to));
    const bool made = is_elementwise(op.code) || op.code == Opcode::expand_;
    const bool rounded =
        is_rounded_argument(f, op) && disjoint(f.type(op.results[0]).axes, cut);
    free[o.index] = source || rounded ||
                    (made && std::all_of(op.operands.begin(), op.operands.end(), [&](ValueId v) {
                       const OpId def = f.value(v).def;
                       return def.valid() && free[def.index];
                     }));
  }
  return free;
}

class Finder {
 public:
  Finder(const Function& f, OpId anchor, const ChunkOptions& options)
      : f_(f), readers_(f.values.size()) {
    part_.anchor = anchor;
    part_.cut = cut_rows(f, row_axes(f, f.op(anchor)), options);
    part_.inside.assign(f.ops.size(), 0);
    cut_ = part_.cut.axes();
    free_ = made_again(f, cut_);
    for (OpId o : f.body().ops)
      for (ValueId v : f.op(o).operands) readers_[v.index].push_back(o);
  }

  std::optional<Part> run(std::string& fault) {
    grow();
    close();
    fault.clear();
    if (!reduces()) return std::nullopt;
    fault = obstacle();
    if (!fault.empty()) return std::nullopt;
    absorb();
    borders();
    return std::move(part_);
  }

 private:
  bool large(ValueId v) const { return is_large(f_, part_.anchor, part_.cut, v); }
  bool inside(ValueId v) const {
    const OpId def = f_.value(v).def;
    return def.valid() && part_.inside[def.index];
  }
  std::string line(OpId o) const { return fmt::format("`{}`", facts(f_.op(o).code).name); }

  // Everything that touches a large value which the anchor's is connected to by others.
  void grow() {
    std::vector<char> seen(f_.values.size(), 0);
    std::vector<ValueId> work;
    const auto meet = [&](ValueId v) {
      if (seen[v.index] || !large(v)) return;
      seen[v.index] = 1;
      work.push_back(v);
    };
    const auto take = [&](OpId o) {
      if (part_.inside[o.index]) return;
      part_.inside[o.index] = 1;
      for (ValueId v : f_.op(o).operands) meet(v);
      for (ValueId v : f_.op(o).results) meet(v);
    };
    take(part_.anchor);
    while (!work.empty()) {
      const ValueId v = work.back();
      work.pop_back();
      if (f_.value(v).def.valid()) take(f_.value(v).def);
      for (OpId o : readers_[v.index]) take(o);
    }
  }

  // What stands between two operations that are inside is inside: their result could not wait.
  void close() {
    const std::vector<OpId>& ops = f_.body().ops;
    std::vector<char> behind(f_.ops.size(), 0), before = part_.inside;
    for (OpId o : ops)
      for (ValueId v : f_.op(o).operands) {
        const OpId def = f_.value(v).def;
        if (def.valid() && (part_.inside[def.index] || behind[def.index])) behind[o.index] = 1;
      }
    for (auto o = ops.rbegin(); o != ops.rend(); ++o)
      if (before[o->index])
        for (ValueId v : f_.op(*o).operands)
          if (f_.value(v).def.valid()) before[f_.value(v).def.index] = 1;
    for (OpId o : ops)
      if (behind[o.index] && before[o.index]) part_.inside[o.index] = 1;
  }

  // A loss takes the logits of a row together; what is only multiplied on (the hidden layer of an
  // MLP) is not meant.
  bool reduces() const {
    return std::any_of(f_.body().ops.begin(), f_.body().ops.end(), [&](OpId o) {
      const Op& op = f_.op(o);
      return part_.inside[o.index] && facts(op.code).kind == Kind::reduce &&
             large(op.operands[0]) && row_wise(f_, op, cut_);
    });
  }

  std::string obstacle() const {
    for (OpId o : f_.body().ops) {
      if (!part_.inside[o.index]) continue;
      const Op& op = f_.op(o);
      if (row_wise(f_, op, cut_)) continue;
      const ValueId v = op.results.empty() ? ValueId{} : op.results[0];
      if (!row_sum(f_, op, cut_))
        return fmt::format("{} goes across the rows of what is computed from it", line(o));
      for (OpId reader : readers_[v.index])
        if (part_.inside[reader.index])
          return fmt::format(
              "{} sums over the rows of what is computed from it, and {} needs the sum for each "
              "row again",
              line(o), line(reader));
    }
    for (ValueId v : f_.body().results)
      if (inside(v) && large(v)) return "a result of the function is as large";
    return "";
  }

  // Elementwise operations on what is inside: the row's loss leaves, not what it is made of.
  void absorb() {
    for (OpId o : f_.body().ops) {
      const Op& op = f_.op(o);
      if (part_.inside[o.index] || !is_elementwise(op.code) || !row_wise(f_, op, cut_)) continue;
      bool all = true, any = false;
      for (ValueId v : op.operands) {
        const OpId def = f_.value(v).def;
        const bool in = inside(v) && f_.type(v).axes.contains_all(cut_);
        any |= in;
        all &= in || (def.valid() && free_[def.index]);
      }
      part_.inside[o.index] = all && any;
    }
  }

  void borders() {
    const std::vector<OpId>& body = f_.body().ops;
    std::vector<char> needed = part_.inside, input(f_.values.size(), 0), wanted = input;
    for (ValueId v : f_.body().results) wanted[v.index] = 1;
    for (auto o = body.rbegin(); o != body.rend(); ++o) {
      if (!part_.inside[o->index])
        for (ValueId v : f_.op(*o).operands) wanted[v.index] = 1;
      if (!needed[o->index]) continue;
      for (ValueId v : f_.op(*o).operands) {
        const OpId def = f_.value(v).def;
        if (def.valid() && (part_.inside[def.index] || free_[def.index]))
          needed[def.index] = 1;
        else
          input[v.index] = 1;
      }
    }
    for (std::uint32_t v = 0; v < f_.values.size(); ++v)
      if (input[v]) part_.inputs.push_back(ValueId{v});
    for (OpId o : body) {
      if (needed[o.index]) part_.ops.push_back(o);
      if (!part_.inside[o.index]) continue;
      for (ValueId v : f_.op(o).results)
        if (wanted[v.index])
          (row_wise(f_, f_.op(o), cut_) ? part_.kept : part_.summed).push_back(v);
    }
  }

  const Function& f_;
  std::vector<std::vector<OpId>> readers_;  // by value
  Part part_;
  AxisList cut_;
  std::vector<char> free_;  // by operation
};

}  // namespace

std::int64_t Part::chunks(const Function& f) const {
  const std::int64_t slices = (f.extent(cut.sliced) + cut.step - 1) / cut.step;
  return slices * f.elements({DType::f32, cut.picked});
}

AxisList row_axes(const Function& f, const Op& anchor) {
  const int matrix = matrix_of(f, anchor);
  AxisList out;
  for (AxisId a : f.type(anchor.results[0]).axes)
    if (matrix >= 0 && !f.type(anchor.operands[static_cast<std::size_t>(matrix)]).axes.contains(a))
      out.push_back(a);
  return out;
}

std::optional<OpId> find_anchor(const Function& f, const std::vector<OpId>& tried,
                                const ChunkOptions& options) {
  for (OpId o : f.body().ops) {
    const Op& op = f.op(o);
    if (op.code != Opcode::contract_ || std::find(tried.begin(), tried.end(), o) != tried.end())
      continue;
    const AxisList rows = row_axes(f, op);
    const Type& result = f.type(op.results[0]);
    if (rows.empty() || rows.size() == result.axes.size() || f.elements(result) <= options.least ||
        f.elements({DType::f32, rows}) <= options.rows)
      continue;
    // Slices of the rows are kept whole: there is something to gain where these are smaller.
    const auto matrix = static_cast<std::size_t>(matrix_of(f, op));
    if (2 * f.elements(f.type(op.operands[1 - matrix])) <= f.elements(result)) return o;
  }
  return std::nullopt;
}

Cut cut_rows(const Function& f, const AxisList& rows, const ChunkOptions& options) {
  const std::int64_t total = f.elements({DType::f32, rows});
  const std::int64_t limit =
      std::max(options.rows, (total + options.most_chunks - 1) / options.most_chunks);
  Cut cut;
  std::int64_t inner = 1;
  int at = rows.size() - 1;
  while (at > 0 && inner * f.extent(rows[at]) <= limit) inner *= f.extent(rows[at--]);
  for (int i = 0; i < at; ++i) cut.picked.push_back(rows[i]);
  cut.sliced = rows[at];
  const std::int64_t extent = f.extent(cut.sliced), most = std::max<std::int64_t>(limit / inner, 1);
  for (cut.step = most; extent % cut.step != 0; --cut.step)
    if (2 * cut.step <= most) {  // nothing divides it well: chunks of about the same size
      const std::int64_t count = (extent + most - 1) / most;
      cut.step = (extent + count - 1) / count;
      break;
    }
  return cut;
}

bool is_large(const Function& f, OpId anchor, const Cut& cut, ValueId v) {
  return f.type(v).axes.contains_all(cut.axes()) &&
         2 * f.elements(f.type(v)) >= f.elements(f.type(f.op(anchor).results[0]));
}

std::optional<Part> find_part(const Function& f, OpId anchor, const ChunkOptions& options,
                              std::string& fault) {
  return Finder(f, anchor, options).run(fault);
}

}  // namespace gradc::chunking
