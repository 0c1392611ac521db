// The settings of `train { }` and of --set (rules in frontend/README.md).
#include <algorithm>
#include <cmath>
#include <limits>

#include "frontend/lowerer.h"
#include "frontend/near.h"

namespace gradc {

using ast::Setting;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// What --set may change of `train`; a value must lie in [low, high), where high may be infinite.
struct TrainRow {
  std::string_view name;
  double low, high;
  std::string_view range;
  bool adamw, sgd;
};
constexpr TrainRow train_rows[] = {
    {"lr", 0, infinity, "0 or more", true, true},
    {"clip", 0, infinity, "0 or more; 0 is none", true, true},
    {"weight_decay", 0, infinity, "0 or more", true, false},
    {"beta1", 0, 1, "at least 0 and less than 1", true, false},
    {"beta2", 0, 1, "at least 0 and less than 1", true, false},
    {"eps", 0, infinity, "0 or more", true, false},
    {"momentum", 0, 1, "at least 0 and less than 1", false, true},
    {"warmup", 0, infinity, "0 or more", true, true},
    {"steps", 1, 1e15, "a whole number of 1 or more", true, true},
};
const TrainRow* find_row(std::string_view name) {
  for (const TrainRow& r : train_rows)
    if (r.name == name) return &r;
  return nullptr;
}

double* field(Training& t, std::string_view name) {
  if (name == "lr") return &t.lr.peak;
  if (name == "clip") return &t.clip;
  if (name == "weight_decay") return &t.weight_decay;
  if (name == "beta1") return &t.beta1;
  if (name == "beta2") return &t.beta2;
  if (name == "eps") return &t.eps;
  if (name == "momentum") return &t.momentum;
  return name == "warmup" ? &t.lr.warmup : nullptr;
}

bool inside(const TrainRow& row, double x) {
  return std::isfinite(x) && x >= row.low && x < row.high &&
         (row.name != "steps" || x == std::floor(x));
}

}  // namespace

bool Lowerer::find_setting_names() {
  bool fine = true;
  std::vector<std::string_view> names;
  for (const ast::HeaderNumber& h : file_.numbers) names.push_back(h.name.text);
  for (const TrainRow& r : train_rows) names.push_back(r.name);
  for (const auto& [name, value] : options_.set) {
    const bool known = std::find(names.begin(), names.end(), name) != names.end();
    if (!known)
      report_.error({}, fmt::format("--set {}={}: neither the model's header nor `train` has a "
                                    "number `{}`{}; there are {}",
                                    name, value, name, near(name, names), fmt::join(names, ", ")));
    else if (!parse_number(value))
      report_.error({}, fmt::format("--set {}={}: `{}` is not a number", name, value, value));
    fine = fine && known && parse_number(value);
  }
  if (!fine) exit_ = Exit::usage;
  return fine;
}

bool Lowerer::train_number(const Setting& s, double low, double high, const char* range,
                           double& out) {
  if (s.kind != Setting::number) {
    report_.error(s.at, fmt::format("`{}` is a number", s.name.text));
    return false;
  }
  const auto n = number(s.expr, "a setting of `train`");
  if (!n) return false;
  if (!std::isfinite(n->value()) || n->value() < low || n->value() >= high) {
    report_.error(s.at, fmt::format("this is {}; it must be {}", n->text(), range));
    return false;
  }
  out = n->value();
  return true;
}

void Lowerer::schedule(const Setting& s) {
  Schedule& lr = program_.training.lr;
  const TrainRow& peak = *find_row("lr");
  if (s.kind == Setting::number) {
    lr.kind = Schedule::constant;
    train_number(s, peak.low, peak.high, peak.range.data(), lr.peak);
    return;
  }
  if (s.kind != Setting::call || (s.text != "cosine" && s.text != "linear")) {
    report_.error(
        s.at,
        "a learning rate is a number, `cosine(peak, warmup = n)` or `linear(peak, warmup = n)`");
    return;
  }
  lr.kind = s.text == "cosine" ? Schedule::cosine : Schedule::linear;
  for (std::size_t i = 0; i < s.items.size(); ++i) {
    const Setting& item = s.items[i];
    if (item.name.text == "peak" || (item.name.text.empty() && i == 0))
      train_number(item, peak.low, peak.high, peak.range.data(), lr.peak);
    else if (item.name.text == "warmup")
      train_number(item, 0, infinity, "0 or more", lr.warmup);
    else
      report_.error(item.name.text.empty() ? item.at : item.name.at,
                    fmt::format("`{}` takes a peak and `warmup = n`", s.text));
  }
}

void Lowerer::optimizer(const Setting& s) {
  Training& t = program_.training;
  if (s.kind != Setting::call || (s.text != "adamw" && s.text != "sgd")) {
    report_.error(s.at, "an optimizer is `adamw(…)` or `sgd(…)`");
    return;
  }
  const bool adamw = s.text == "adamw";
  t.kind = adamw ? Training::adamw : Training::sgd;
  if (!adamw) t.weight_decay = 0;
  static constexpr std::string_view of_sgd[] = {"lr", "momentum", "clip"};
  static constexpr std::string_view of_adamw[] = {"lr",           "betas",  "eps",
                                                  "weight_decay", "except", "clip"};
  const std::span<const std::string_view> order = adamw
                                                      ? std::span<const std::string_view>(of_adamw)
                                                      : std::span<const std::string_view>(of_sgd);
  std::vector<std::string> given;
  for (std::size_t i = 0; i < s.items.size(); ++i) {
    Setting item = s.items[i];
    if (item.name.text.empty() && i < order.size()) item.name = {std::string(order[i]), item.at};
    const std::string& name = item.name.text;
    if (std::find(order.begin(), order.end(), name) == order.end()) {
      report_.error(item.name.at.line != 0 ? item.name.at : item.at,
                    fmt::format("`{}` has no setting `{}`{}", s.text, name,
                                near(name, {order.begin(), order.end()})));
      continue;
    }
    if (std::find(given.begin(), given.end(), name) != given.end())
      report_.error(item.name.at, fmt::format("`{}` is given twice", name));
    given.push_back(name);
    if (name == "lr") {
      schedule(item);
    } else if (name == "except") {
      if (item.kind == Setting::string)
        t.except = item.text;
      else
        report_.error(item.at, "`except` is a text of patterns: \"*.bias *.weight\"");
    } else if (name == "betas") {
      if (item.kind != Setting::tuple || item.items.size() != 2) {
        report_.error(item.at, "`betas` is a pair: `(0.9, 0.95)`");
        continue;
      }
      train_number(item.items[0], 0, 1, "at least 0 and less than 1", t.beta1);
      train_number(item.items[1], 0, 1, "at least 0 and less than 1", t.beta2);
    } else {
      const TrainRow& row = *find_row(name);
      train_number(item, row.low, row.high, row.range.data(), *field(t, name));
    }
  }
}

void Lowerer::train_setting(const Setting& s) {
  if (s.name.text == "optimizer") return optimizer(s);
  if (s.name.text == "steps") {
    double steps = 0;
    const TrainRow& row = *find_row("steps");
    if (!train_number(s, row.low, row.high, row.range.data(), steps)) return;
    if (steps != std::floor(steps))
      report_.error(s.at, fmt::format("`steps` is a whole number, and this is {}", steps));
    program_.training.steps = static_cast<std::int64_t>(steps);
    return;
  }
  report_.error(s.name.at,
                fmt::format("`train` has no setting `{}`; it has `optimizer` and `steps`{}",
                            s.name.text, near(s.name.text, {"optimizer", "steps"})));
}

void Lowerer::train_settings() {
  std::vector<std::string> given;
  for (const Setting& s : file_.train) {
    if (std::find(given.begin(), given.end(), s.name.text) != given.end())
      report_.error(s.name.at, fmt::format("`{}` is set twice", s.name.text));
    given.push_back(s.name.text);
    train_setting(s);
  }
}

void Lowerer::apply_settings() {
  Training& t = program_.training;
  for (const auto& [name, value] : options_.set) {
    const bool of_header = std::any_of(file_.numbers.begin(), file_.numbers.end(),
                                       [&, &n = name](const auto& h) { return h.name.text == n; });
    const TrainRow* row = find_row(name);
    if (of_header || row == nullptr) continue;
    const std::vector<Note> note = {{{}, fmt::format("with --set {}={}", name, value)}};
    const bool adamw = t.kind == Training::adamw;
    if (adamw ? !row->adamw : !row->sgd) {
      report_.error(file_.has_train ? file_.train_at : file_.model.at,
                    fmt::format("`{}` has no setting `{}`", adamw ? "adamw" : "sgd", name), note);
      continue;
    }
    const double x = parse_number(value)->value();
    if (!inside(*row, x)) {
      report_.error(file_.has_train ? file_.train_at : file_.model.at,
                    fmt::format("`{}` would be {}; it must be {}", name, value, row->range), note);
      continue;
    }
    if (double* f = field(t, name))
      *f = x;
    else
      t.steps = static_cast<std::int64_t>(x);
  }
}

}  // namespace gradc
