// Protects every invariant of ir/verify.cpp: a sound program has no fault, and each breach of it is found
// under its number. Breaches that text can carry are text, the others are made in memory.
#include <doctest/doctest.h>

#include <functional>
#include <set>

#include "ir/text.h"
#include "ir/verify.h"
#include "support/golden.h"
#include "unit/ir/samples.h"

using namespace gradc;

namespace {

constexpr int invariant_count = 22;

constexpr const char* sound = R"(
bundle @params.h {
  a: f32[d=4] as "@.a" ~ normal(0.02)
}
bundle @params {
  w: f32[v=5 d=4] as "w" ~ normal(0.02)
  h: 2 x @params.h
}
bundle @fixed {
  c: f32[d=4] as "c" = @start
}
bundle @saved {
  y: f32[t=3 d=4]
  z: f32[d]
}
input %token: i32[t=3] in 0 .. 5
func @start() -> f32[d=4] {
  %0 = constant 1.0 -> f32[]
  %1 = expand %0 -> f32[d]
  return %1
}
func @h(%x: f32[t=3 d=4], %p: @params.h) -> (y: f32[t d], s: @saved) {
  %y = mul %x, %p.a -> f32[t d]  loc("m.grad":2:3 "m.grad":4:1)
  %z = sum %y over t -> f32[d]
  %r = fused group %y -> f32[t d] { (%a: f32[t d])
    %e = exp %a -> f32[t d]
    yield %e
  }
  return %r, %y, %z
}
kernel @k map(%x: f32[t=3 d=4]) -> f32[t d] {
  %0 = exp %x -> f32[t d]
  return %0
}
func @planned(%x: f32[t=3 d=4] at in+0 [4 1]) -> f32[t d] {
  %0 = launch @k %x -> f32[t d] at out+0 [4 1]
  return %0
}
func @loss(%p: @params, %f: @fixed, %token: i32[t=3], %step: i64[], %seed: i64[]) -> (loss: f32[]) {
  %x = gather %p.w, %token [v] -> f32[t d]
  %x.1 = mul %x, %f.c -> f32[t d]
  %y, %s = call @h %x.1, %p.h.0 -> f32[t d], @saved
  %h = scan t carry 1 slice 1 %s.z, %y -> f32[d] { (%c: f32[d], %i: f32[d])
    %n = add %c, %i -> f32[d]
    yield %n
  }
  %l = sum %h over d -> f32[]
  return %l
}
)";

// A function of the sound program, and an operation of it by what it is.
Function& function(Program& p, std::string_view name) { return p.function(p.find(name)); }
Op& op(Function& f, Opcode code) {
  for (Op& o : f.ops)
    if (o.code == code) return o;
  FAIL("no such operation");
  return f.ops[0];
}
ValueId value(const Program& p, const Function& f, std::string_view name) {
  for (std::uint32_t v = 0; v < f.values.size(); ++v)
    if (p.text(f.values[v].name) == name) return ValueId{v};
  FAIL("no such value");
  return {};
}

struct Breach {
  int invariant;
  const char* what;
  std::function<void(Program&)> make;
};

const std::vector<Breach>& breaches() {
  using O = Opcode;
  static const std::vector<Breach> all{
      {1, "two functions of one name", [](Program& p) { function(p, "h").name = p.intern("k"); }},
      {1, "a function's name with a space", [](Program& p) { function(p, "h").name = p.intern("a b"); }},
      {1, "a bundle without a name", [](Program& p) { p.bundles[0].name = p.intern(""); }},
      {1, "two inputs of one name", [](Program& p) { p.inputs.push_back(p.inputs[0]); }},
      {2, "a bundle that holds itself", [](Program& p) { p.bundles[0].members.push_back({.name = p.intern("q"), .nested = BundleId{1}, .turns = 1}); }},
      {2, "a member that looks like a turn", [](Program& p) { p.bundles[1].members[0].name = p.intern("h.0.a"); }},
      {2, "two members of one name", [](Program& p) { p.bundles[3].members[1].name = p.intern("y"); }},
      {2, "turns beyond the bound", [](Program& p) { p.bundles[1].members[1].turns = 1 << 20; }},
      {2, "fewer turns than none", [](Program& p) { p.bundles[1].members[1].turns = -1; }},
      {2, "too many elements", [](Program& p) { for (Axis& a : p.bundles[1].axes) a.extent = INT32_MAX; }},
      {3, "an initialiser of another type", [](Program& p) { function(p, "start").regions[0].results[0] = ValueId{0}; }},
      {3, "an initialiser with arguments", [](Program& p) { p.bundles[2].members[0].initial.function = p.find("planned"); }},
      {4, "a function that calls itself", [](Program& p) { op(function(p, "loss"), O::call_).attr.callee = p.find("loss"); }},
      {5, "an integer bounded by nothing", [](Program& p) { p.inputs[0].high = 0; }},
      {5, "a bounded real", [](Program& p) { p.inputs[0].dtype = DType::f32; }},
      {5, "an axis twice in an input", [](Program& p) { p.inputs[0].axes.push_back(p.inputs[0].axes[0]); }},
      {6, "an entry without its input", [](Program& p) { p.inputs.clear(); }},
      {6, "an entry whose group is not %p", [](Program& p) { function(p, "loss").groups[0].name = p.intern("q"); }},
      {6, "an input of another extent", [](Program& p) { p.inputs[0].axes[0].extent = 7; }},
      {6, "a loss that is no scalar", [](Program& p) { Function& f = function(p, "loss"); f.regions[0].results = {value(p, f, "x")}; }},
      {7, "two parameters of one stored name", [](Program& p) { p.bundles[2].members[0].stored = "w"; }},
      {7, "a parameter without a stored name", [](Program& p) { p.bundles[2].members[0].stored.clear(); }},
      {7, "a stored name with more turns than there are", [](Program& p) { p.bundles[0].members[0].stored = "@^.@.a"; }},
      {8, "a location in no file", [](Program& p) { p.locations[0].lines[0].file = FileId{9}; }},
      {8, "lines out of order", [](Program& p) { std::swap(p.locations[0].lines[0], p.locations[0].lines[1]); }},
      {9, "an operand that does not exist", [](Program& p) { op(function(p, "h"), O::mul_).operands[0] = ValueId{99}; }},
      {9, "a value of an axis that does not exist", [](Program& p) { function(p, "h").values[0].type.axes[0] = AxisId{99}; }},
      {9, "a callee that does not exist", [](Program& p) { op(function(p, "loss"), O::call_).attr.callee = FunctionId{99}; }},
      {9, "a location that does not exist", [](Program& p) { op(function(p, "h"), O::mul_).loc = LocId{99}; }},
      {9, "a function without a body", [](Program& p) { function(p, "h").regions.clear(); }},
      {9, "a group beyond the values", [](Program& p) { function(p, "h").groups[0].count = 99; }},
      {9, "an initialiser that does not exist", [](Program& p) { p.bundles[2].members[0].initial.function = {}; }},
      {10, "two axes of one name", [](Program& p) { auto& a = function(p, "h").axes; a[0].name = a[1].name; }},
      {10, "a negative extent", [](Program& p) { function(p, "h").axes[0].extent = -1; }},
      {10, "an axis called `_`", [](Program& p) { function(p, "h").axes[0].name = p.intern("_"); }},
      {11, "an axis twice in a type", [](Program& p) { auto& a = function(p, "h").values[0].type.axes; a[0] = a[1]; }},
      {11, "too many elements in a value", [](Program& p) { for (Axis& a : function(p, "h").axes) a.extent = INT32_MAX; }},
      {12, "an operation in two places", [](Program& p) { auto& r = function(p, "h").regions[0]; r.ops.push_back(r.ops[0]); }},
      {12, "an operation in no region", [](Program& p) { function(p, "planned").regions[0].ops.clear(); }},
      {12, "a region of no operation", [](Program& p) { function(p, "planned").regions.emplace_back(); }},
      {12, "a region of two operations", [](Program& p) { auto& f = function(p, "h"); op(f, O::sum_).regions = op(f, O::fused_).regions; }},
      {12, "an operation without its region", [](Program& p) { auto& f = function(p, "h"); op(f, O::sum_).regions.swap(op(f, O::fused_).regions); }},
      {12, "regions that hold each other", [](Program& p) {
         Function& f = function(p, "h");
         const OpId o{static_cast<std::uint32_t>(f.regions[0].ops[2].index)};
         std::erase(f.regions[0].ops, o);
         f.regions[f.op(o).regions[0].index].ops.push_back(o);
       }},
      {13, "a value that nothing defines", [](Program& p) { auto& v = function(p, "h").values; v.push_back(v[0]); }},
      {13, "a value defined twice", [](Program& p) { auto& r = function(p, "h").regions[0]; r.arguments.push_back(r.arguments[0]); }},
      {13, "a value that names another operation", [](Program& p) { auto& f = function(p, "h"); f.values[op(f, O::mul_).results[0].index].def = OpId{1}; }},
      {14, "a use before the definition", [](Program& p) { auto& r = function(p, "h").regions[0]; std::swap(r.ops[0], r.ops[1]); }},
      {14, "a use of an outer region's value", [](Program& p) { auto& f = function(p, "h"); op(f, O::exp_).operands[0] = ValueId{0}; }},
      {14, "a use of an inner region's value", [](Program& p) { auto& f = function(p, "h"); f.regions[0].results[0] = value(p, f, "e"); }},
      {14, "a region that gives an outer value", [](Program& p) { auto& f = function(p, "h"); f.regions[1].results[0] = ValueId{0}; }},
      {15, "an operand too many", [](Program& p) { auto& o = op(function(p, "h"), O::sum_).operands; o.push_back(o[0]); }},
      {15, "an operand too few", [](Program& p) { op(function(p, "h"), O::mul_).operands.pop_back(); }},
      {16, "an attribute that is not used", [](Program& p) { op(function(p, "h"), O::mul_).attr.integer = 1; }},
      {16, "a stride where none belongs", [](Program& p) { op(function(p, "h"), O::mul_).attr.stride = 2; }},
      {16, "an integer for a real", [](Program& p) { op(function(p, "start"), O::constant_).attr.integer = 1; }},
      {16, "a gather along nothing", [](Program& p) { op(function(p, "loss"), O::gather_).attr.from = {}; }},
      {16, "a call of nothing", [](Program& p) { op(function(p, "loss"), O::call_).attr.callee = {}; }},
      {16, "a sum over no axis", [](Program& p) { op(function(p, "h"), O::sum_).attr.axes[0] = {}; }},
      {17, "a result of another dtype", [](Program& p) { auto& f = function(p, "h"); f.values[op(f, O::sum_).results[0].index].type.dtype = DType::f64; }},
      {17, "a launch of what is no kernel", [](Program& p) { op(function(p, "planned"), O::launch_).attr.callee = p.find("start"); }},
      {17, "a call of a kernel", [](Program& p) { op(function(p, "loss"), O::call_).attr.callee = p.find("k"); }},
      {17, "a call with an argument too few", [](Program& p) { op(function(p, "loss"), O::call_).operands.pop_back(); }},
      {17, "a region's argument of another type", [](Program& p) { auto& f = function(p, "h"); f.values[f.regions[1].arguments[0].index].type.dtype = DType::f64; }},
      {17, "a scan that carries more than it has", [](Program& p) { op(function(p, "loss"), O::scan_).attr.carried = 3; }},
      {17, "a scan that slices its state", [](Program& p) { auto& a = op(function(p, "loss"), O::scan_).attr; a.carried = 0; a.sliced = 2; }},
      {18, "fewer names than results", [](Program& p) { function(p, "h").result_names.pop_back(); }},
      {18, "two results of one name", [](Program& p) { auto& n = function(p, "h").result_names; n[0] = n[1]; }},
      {19, "two values of one name", [](Program& p) { auto& f = function(p, "h"); f.values[1].name = f.values[0].name; }},
      {19, "a value whose name is a number", [](Program& p) { function(p, "h").values[0].name = p.intern("0"); }},
      {19, "a value named as a group", [](Program& p) { auto& f = function(p, "h"); f.groups[0].name = f.values[0].name; }},
      {20, "a group of other members", [](Program& p) { function(p, "loss").groups[0].count = 2; }},
      {20, "a group of another bundle", [](Program& p) { function(p, "h").groups[0].bundle = BundleId{3}; }},
      {20, "a group of other types", [](Program& p) { function(p, "h").groups[0].first = ValueId{0}; }},
      {20, "a group across definitions", [](Program& p) { auto& f = function(p, "loss"); std::swap(f.regions[0].arguments[0], f.regions[0].arguments[1]); }},
      {20, "groups that share values", [](Program& p) { auto& f = function(p, "h"); f.groups.push_back(f.groups[0]); }},
      {22, "a place for a kernel's values", [](Program& p) { auto& f = function(p, "k"); f.placed.resize(f.values.size()); }},
      {22, "an offset between elements", [](Program& p) { function(p, "planned").placed[0].offset = 3; }},
      {22, "a negative stride", [](Program& p) { function(p, "planned").placed[0].strides[0] = -4; }},
      {22, "an end beyond 64 bits", [](Program& p) { function(p, "planned").placed[0].strides[0] = INT64_MAX / 4; }},
      {22, "a launch without a place", [](Program& p) { function(p, "planned").placed[1].arena = Arena::none; }},
      {9, "fewer places than values", [](Program& p) { function(p, "planned").placed.pop_back(); }},
  };
  return all;
}

std::string kernel_text(const std::string& family, const std::string& results, const std::string& lines) {
  return "kernel @k " + family + "(%x: f32[t=6 d=4], %w: f32[v=5 d], %i: i32[t], %n: i64[], %z: f32[d]) -> " + results +
         " {\n" + lines + "}\n";
}

// Kernels that are not what they say.
struct Form {
  const char* family;
  const char* results;
  const char* lines;
};
constexpr Form wrong_forms[] = {
    {"map", "f32[d]", "%0 = sum %x over t -> f32[d]\nreturn %0\n"},                                  // a reduction
    {"map", "f32[t v]", "%0 = contract %x, %w -> f32[t v]\nreturn %0\n"},                            // a contraction
    {"map", "f32[t d], f32[d]", "%0 = exp %x -> f32[t d]\n%1 = exp %z -> f32[d]\nreturn %0, %1\n"},   // two anchors
    {"map", "f32[d]", "%0 = exp %x -> f32[t d]\n%1 = pick %0 [t = 1] -> f32[d]\nreturn %1\n"},       // a view of what is computed
    {"map", "f32[d]", "%0 = exp %x -> f32[t d]\nreturn %z\n"},                                       // axes beyond the anchor's
    {"map", "f32[v d]", "%0 = scatter %x, %i [v] -> f32[v d]\nreturn %0\n"},
    {"rows", "f32[t d]", "%0 = exp %x -> f32[t d]\nreturn %0\n"},                                    // no reduction
    {"rows", "f32[t], f32[d]", "%0 = sum %x over d -> f32[t]\n%1 = sum %x over t -> f32[d]\nreturn %0, %1\n"},
    {"rows", "f32[t]", "%0 = sum %x over d -> f32[t]\n%1 = sum %w over d -> f32[v]\nreturn %0\n"},
    {"rows", "f32[d]", "%0 = sum %x over d -> f32[t]\nreturn %z\n"},                                 // a result of neither kind
    {"rows", "f32[t d]", "%0 = argmax %x over d -> i32[t]\n%1 = gather %w, %0 [v] -> f32[t d]\nreturn %1\n"},
    {"contract", "f32[t d]", "%0 = exp %x -> f32[t d]\nreturn %0\n"},                                // no contraction
    {"contract", "f32[t v]", "%0 = exp %x -> f32[t d]\n%1 = contract %0, %w -> f32[t v]\nreturn %1\n"},   // a prologue
    {"contract", "f32[t v]", "%0 = contract %x, %w -> f32[t v]\n%1 = contract %x, %w -> f32[v t]\n%2 = add %0, %1 -> f32[t v]\nreturn %2\n"},
    {"contract", "f32[t]", "%0 = contract %x, %w -> f32[t v]\n%1 = sum %0 over v -> f32[t]\nreturn %1\n"},
    {"contract", "f32[]", "%0 = contract %x, %w -> f32[t v]\n%1 = sum %0 over t v -> f32[]\nreturn %1\n"},   // totals alone
    {"contract", "f32[t v], f32[]", "%0 = contract %x, %w -> f32[t v]\n%1 = sum %z over d -> f32[]\nreturn %0, %1\n"},
    {"contract", "f32[t v]", "%0 = contract %x, %w -> f32[t v]\n%1 = sum %0 over t v -> f32[]\n%2 = mul %0, %1 -> f32[t v]\nreturn %2\n"},
    {"read", "f32[t d]", "%0 = gather %w, %i [v] -> f32[t d]\nreturn %0\n"},
    {"read", "f32[v d]", "%0 = exp %x -> f32[t d]\n%1 = scatter %0, %i [v] -> f32[v d]\nreturn %1\n"},
    {"map", "f32[t d]", "%0 = fused group %x -> f32[t d] { (%a: f32[t d])\nyield %a\n}\nreturn %0\n"},
};
constexpr Form right_forms[] = {
    {"map", "f32[t d]", "%0 = gather %w, %i [v] -> f32[t d]\n%1 = mul %0, %z -> f32[t d]\nreturn %1\n"},
    {"map", "f32[d]", "%0 = pick %x [t = 1] -> f32[d]\n%1 = shift %0 [d + 1] -> f32[d]\n%2 = add %1, %z -> f32[d]\nreturn %2, %1\n"},
    {"map", "f32[t d]", "%0 = position t -> i32[t]\n%1 = floordiv %0, %i -> i32[t]\n%2 = gather %w, %1 [v] -> f32[t d]\nreturn %2\n"},
    {"map", "f32[n=7 d]", "%0 = concat %x, %z [n = t _] -> f32[n d]\nreturn %0\n"},
    {"rows", "f32[t d], f32[t]", "%0 = exp %x -> f32[t d]\n%1 = sum %0 over d -> f32[t]\n%2 = div %0, %1 -> f32[t d]\n%3 = sum %2 over d -> f32[t]\nreturn %2, %3\n"},
    {"contract", "f32[t v], f32[]", "%0 = contract %x, %w -> f32[t v]\n%1 = mul %0, %0 -> f32[t v]\n%2 = sum %1 over t v -> f32[]\nreturn %0, %2\n"},
    {"contract", "f32[t v]", "%0 = cast %x -> f64[t d]\n%1 = cast %w -> f64[v d]\n%2 = contract %0, %1 -> f64[t v]\n%3 = cast %2 -> f32[t v]\nreturn %3\n"},
    {"read", "f32[v d]", "%0 = scatter %x, %i, %w [v] -> f32[v d]\nreturn %0\n"},
    {"read", "f32[t d]", "%0 = update %x, %w, %n [v -> t] -> f32[t d]\nreturn %0\n"},
};

std::vector<Fault> faults_of(const Form& f) {
  std::string results = f.results;
  // The second result of the second right form has the first one's type.
  const std::string lines = f.lines;
  if (lines.find("return %2, %1") != std::string::npos) results += ", " + results;
  return verify(samples::parse(kernel_text(f.family, results, lines)));
}

}  // namespace

TEST_CASE("a sound program has no fault") {
  for (const Fault& f : verify(samples::parse(sound))) FAIL(f.message);
  for (const std::string& text : samples::all_programs())
    for (const Fault& f : verify(samples::parse(text))) FAIL_CHECK(f.message << text);
}

TEST_CASE("each breach of an invariant is found under its number") {
  std::set<int> covered{21};   // kernels: below
  for (const Breach& b : breaches()) {
    CAPTURE(std::string(b.what));
    Program p = samples::parse(sound);
    b.make(p);
    const std::vector<Fault> faults = verify(p);
    REQUIRE(!faults.empty());
    CHECK_MESSAGE(faults[0].invariant == b.invariant, faults[0].invariant << ": " << faults[0].message);
    CHECK(!faults[0].message.empty());
    covered.insert(b.invariant);
  }
  CHECK(covered.size() == invariant_count);
  // The list at the head of the verifier is the specification: it has no other number.
  const std::string head = golden::read_file(golden::source_path("ir/verify.cpp"));
  CHECK(head.find("//  " + std::to_string(invariant_count) + " ") != std::string::npos);
  CHECK(head.find("//  " + std::to_string(invariant_count + 1) + " ") == std::string::npos);
}

TEST_CASE("kernels have the form of their family") {
  for (const Form& f : right_forms)
    for (const Fault& fault : faults_of(f)) FAIL_CHECK(fault.message);
  for (const Form& f : wrong_forms) {
    CAPTURE(std::string(f.lines));
    const std::vector<Fault> faults = faults_of(f);
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].invariant == 21);
  }
}

TEST_CASE("a fault shows its operation, and there are no more than one reads") {
  Program p = samples::parse(sound);
  Function& f = function(p, "h");
  f.values[op(f, Opcode::sum_).results[0].index].type.dtype = DType::f64;
  const std::vector<Fault> faults = verify(p);
  REQUIRE(faults.size() >= 1);
  CHECK(faults[0].message == "@h: `%z = sum %y over t -> f64[d=4]`: gives f32, not f64");

  std::string many = "func @f(%x: f32[t=4]) -> f32[t] {\n";
  for (int i = 0; i < 1000; ++i) many += "  %" + std::to_string(i) + " = exp %x -> f32[t]\n";
  Program q = samples::parse(many + "  return %x\n}\n");
  for (std::uint32_t v = 1; v < q.functions[0].values.size(); ++v) q.functions[0].values[v].type.dtype = DType::f64;
  const std::size_t shown = verify(q).size();
  CHECK(shown > 1);
  CHECK(shown <= 20);
}
