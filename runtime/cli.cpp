// The command line: flags to options. What the verbs do stands in their files.
#include "runtime/cli.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "frontend/near.h"
#include "runtime/train.h"
#include "runtime/verbs.h"

namespace gradc {
namespace {

constexpr const char* about =
    "gradc compiles a model, written as mathematics with named axes, into a native training "
    "step.\n\n"
    "  gradc check gpt.grad                 what every line's axes are, and the parameters\n"
    "  gradc train gpt.grad --data text/    train on bytes of text; prints a line a step\n"
    "  gradc dump gpt.grad --stage=grad     read what the compiler did\n";

constexpr const char* exits =
    "\nExit codes: 0 ok; 1 the text or IR is wrong; 2 flags, names, limits; 3 a file, its content, "
    "or memory;\n4 the numbers (NaN); 5 a check did not hold; 70 a fault of gradc; 130, 143 after "
    "SIGINT, SIGTERM.";

constexpr const char* target_names = "avx512_bf16, avx512, avx2 or portable";

// CLI11's own name the largest double in full as the end of the range.
CLI::Validator number_where(bool (*holds)(double), const char* wanted, const char* name) {
  return {[=](const std::string& text) {
            char* end = nullptr;
            const double x = std::strtod(text.c_str(), &end);
            if (end != text.c_str() && *end == 0 && holds(x)) return std::string();
            return fmt::format("{} is not {}", text, wanted);
          },
          name};
}
CLI::Validator positive() {
  return number_where([](double x) { return x > 0; }, "a number above 0", "POSITIVE");
}
CLI::Validator not_negative() {
  return number_where([](double x) { return x >= 0; }, "0 or a number above", "NONNEGATIVE");
}

struct Verb {
  CLI::App* app;
  std::function<int()> run;
};

void add_fusion(CLI::App& app, Common& c) {
  app.add_flag("--no-fuse{all}", c.no_fuse,
               "run definitions instead of fused forms: of all, or --no-fuse=attention,gelu");
}

void add_model(CLI::App& app, Common& c, const char* what) {
  app.add_option("FILE", c.file, what)->required();
  app.add_option("--set", c.set,
                 "numbers of the model's header, or of `train`: lr clip weight_decay beta1 beta2 "
                 "eps warmup steps")
      ->type_name("NAME=VALUE ...")->expected(1, -1);
  add_fusion(app, c);
}

void add_precision(CLI::App& app, Common& c) {
  app.add_option("--precision", c.precision,
                 "bf16: the operands of products are rounded to it; sums and all else stay f32")
      ->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
}

void add_machine(CLI::App& app, Common& c) {
  app.add_option("--threads", c.threads,
                 "workers; results never depend on it (default: all processors)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--target", c.target,
                 fmt::format("{} (default: the best that runs here)", target_names));
  add_precision(app, c);
  app.add_flag("--no-cache", c.no_cache,
               "compile every kernel; do not read or write $GRADC_CACHE_DIR (default: "
               "~/.cache/gradc)");
}

void add_budget(CLI::App& app, Common& c) {
  app.add_option("--memory-budget", c.memory_budget,
                 "of a step's activations: 800M, 1.5G; turns of `repeat` are recomputed until it "
                 "is met")
      ->type_name("BYTES");
}
void add_seed(CLI::App& app, Common& c) {
  app.add_option("--seed", c.seed, "of initial values, order of the data, and draws");
}
void add_json(CLI::App& app, Common& c) {
  app.add_flag("--json", c.json, "one JSON object a line on stdout");
}

Verb train_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<TrainOptions>();
  CLI::App* app = root.add_subcommand("train",
                                      "Train a model on text; a byte is a token (v = 256). Prints "
                                      "a line a step.");
  add_model(*app, *c, "the model");
  app->add_option("--data", o->data, "files, or folders of files, of any text")
      ->required()->expected(1, -1);
  app->add_option("--steps", o->steps, "how many (default: as the model's `train` says, or 1000)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  add_seed(*app, *c);
  app->add_option("--out", o->out, "folder for weights.safetensors and run.json");
  app->add_option("--save-every", o->save_every, "save also every N steps")
      ->check(not_negative());
  app->add_option("--validation", o->validation, "share of every file that is held out, at its end")
      ->check(CLI::Range(0.0, 0.5))->capture_default_str();
  app->add_option("--validate-every", o->validate_every, "validation loss every N steps; 0: never")
      ->check(not_negative())->capture_default_str();
  app->add_option("--validation-windows", o->validation_windows,
                  "held-out sequences of one validation")
      ->check(positive())->capture_default_str();
  app->add_option("--log-every", o->log_every, "print every N-th step")
      ->check(positive())->capture_default_str();
  app->add_option("--sample-every", o->sample_every,
                  "show generated text every N steps; 0: at the end alone")
      ->check(not_negative())->capture_default_str();
  app->add_option("--sample-tokens", o->sample_tokens, "its length; 0: none")
      ->check(not_negative())->capture_default_str();
  app->add_option("--until", o->until,
                  "stop once the validation loss is below: `bigram` (the entropy of pairs of "
                  "bytes) or a number")
      ->check(CLI::Number | CLI::IsMember({"bigram"}));
  app->add_option("--weights", o->weights, "start from a safetensors file");
  app->add_option("--ignore", o->ignore,
                  "stored names (`*` is any text) that may be missing or unexpected there")
      ->expected(1, -1);
  add_budget(*app, *c);
  add_machine(*app, *c);
  add_json(*app, *c);
  return {app, [c, o] { return train(*c, *o); }};
}

Verb sample_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<SampleVerbOptions>();
  CLI::App* app = root.add_subcommand("sample", "Generate text from trained weights.");
  add_model(*app, *c, "the model");
  app->add_option("--checkpoint", o->checkpoint,
                  "folder that `train --out` wrote; brings its --set values");
  app->add_option("--weights", o->weights, "a safetensors file instead");
  app->add_option("--ignore", o->ignore,
                  "stored names (`*` is any text) that may be missing or unexpected")
      ->expected(1, -1);
  app->add_option("--prompt", o->prompt, "text to go on from (default: a newline)");
  app->add_option("--tokens", o->tokens, "how many bytes")
      ->check(positive())->capture_default_str();
  app->add_option("--temperature", o->temperature, "0 takes the likeliest byte")
      ->check(not_negative())->capture_default_str();
  app->add_option("--top-k", o->top_k, "draw among the k likeliest; 0: all")
      ->check(not_negative())->capture_default_str();
  add_seed(*app, *c);
  add_machine(*app, *c);
  return {app, [c, o] { return sample(*c, *o); }};
}

Verb check_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  CLI::App* app = root.add_subcommand("check",
                                      "Check a model; print it with the axes of every line's value "
                                      "in the margin, and its parameters.");
  add_model(*app, *c, "the model");
  auto passes = std::make_shared<bool>(false);
  app->add_flag("--passes", *passes,
                "instead: the training step in the interpreter, before and behind each pass, at "
                "the smallest sizes");
  add_seed(*app, *c);
  app->add_option("--target", c->target, target_names);
  return {app, [c, passes] { return *passes ? check_passes(*c) : check(*c); }};
}

Verb dump_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<DumpOptions>();
  CLI::App* app = root.add_subcommand("dump",
                                      "Print the program at a stage of the compiler. What is IR "
                                      "text goes through `gradc opt - --passes=` unchanged.");
  app->add_option("FILE", c->file, "the model");
  app->add_option("--set", c->set, "numbers of the model's header")
      ->type_name("NAME=VALUE ...")->expected(1, -1);
  app->add_option("--stage", o->stage, "one of --list-stages")->capture_default_str();
  app->add_flag("--list-stages", o->list_stages, "print the stages, one a line");
  app->add_option("--after", o->after,
                  "the program behind this pass instead (names: gradc opt --list)");
  app->add_option("--function", o->function, "this function and what it calls (default: @step)");
  app->add_flag("--brief", o->brief,
                "without locations; bundles and bodies of fused operations as { … }; the plan's "
                "costs ahead");
  app->add_flag("--math", o->math,
                "the gradient (--stage=grad) as mathematics, in the language of the models");
  app->add_flag("--remarks", o->remarks,
                "instead: what was decided, and why not, with file and line");
  add_fusion(*app, *c);
  add_budget(*app, *c);
  add_precision(*app, *c);
  app->add_option("--target", c->target, target_names);
  return {app, [c, o, app] {
            if (!o->list_stages && c->file.empty())
              return report({}, failure(Exit::usage,
                                        app->get_name() + " needs a FILE, or --list-stages"));
            return dump(*c, *o);
          }};
}

Verb opt_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<OptOptions>();
  CLI::App* app = root.add_subcommand("opt", "Run passes on IR text: IR in, IR out.");
  app->add_option("FILE", c->file, "IR text; '-' is stdin");
  app->add_option("--passes", o->passes,
                  "names separated by commas; empty: parse, verify and print")
      ->expected(0, 1);
  app->add_flag("--list", o->list, "print the passes, one a line");
  app->add_flag("--brief", o->brief, "print without locations");
  app->add_option("--target", c->target, target_names);
  return {app, [c, o, app] {
            const std::string needs = app->get_name() + " needs a FILE ('-' is stdin), or --list";
            if (!o->list && c->file.empty()) return report({}, failure(Exit::usage, needs));
            return opt(*c, *o);
          }};
}

Verb run_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<RunOptions>();
  CLI::App* app = root.add_subcommand("run", "Run a model, or a function of IR text, on arrays.");
  add_model(*app, *c, "a .grad model or IR text (.ir; '-' is IR on stdin)");
  app->add_option("--input", o->inputs,
                  "NAME=FILE.npy, or FILE.safetensors for every tensor by name")
      ->expected(1, -1);
  app->add_option("--value", o->values,
                  "final values, or grad.PARAM as in training; IR text: results by name (default: "
                  "all)")
      ->expected(1, -1);
  app->add_option("--function", o->function, "IR text: which function")->capture_default_str();
  app->add_option("--output", o->output,
                  "FILE.npy (one value) or FILE.safetensors (default: printed)");
  app->add_option("--weights", o->weights,
                  "a safetensors file (default: initial values by --seed)");
  app->add_option("--ignore", o->ignore, "stored names that may be missing or unexpected there")
      ->expected(1, -1);
  app->add_flag("--interpret", o->interpret, "by the oracle, in float64, instead of compiled");
  add_seed(*app, *c);
  add_machine(*app, *c);
  return {app, [c, o] { return run(*c, *o); }};
}

Verb gradcheck_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<GradcheckOptions>();
  CLI::App* app = root.add_subcommand("gradcheck",
                                      "Compare every parameter's derivative with finite "
                                      "differences, in float64, at the smallest sizes.");
  add_model(*app, *c, "the model");
  app->add_option("--elements", o->elements,
                  "single elements of each parameter, beside one random direction")
      ->check(positive())->capture_default_str();
  add_seed(*app, *c);
  return {app, [c, o] { return gradcheck(*c, *o); }};
}

Verb bench_verb(CLI::App& root) {
  auto c = std::make_shared<Common>();
  auto o = std::make_shared<BenchOptions>();
  CLI::App* app = root.add_subcommand("bench", "Time the training step on random tokens.");
  add_model(*app, *c, "the model");
  app->add_option("--steps", o->steps, "timed, after two that are not")
      ->check(positive())->capture_default_str();
  CLI::Option* profile = app->add_flag("--profile", o->profile,
                                       "each kernel: milliseconds, FLOP, bytes, share of its "
                                       "roofline, each thread busy and waiting; the overhead; the "
                                       "machine's rates");
  app->add_flag("--lines", o->lines,
                "with --profile: the model's text, each line with milliseconds forward and "
                "backward, megabytes kept, its kernels")
      ->needs(profile);
  app->add_option("--trace", o->trace, "write the last step as a Chrome trace, a row a thread")
      ->type_name("FILE");
  app->add_option("--weights", o->weights, "start from a safetensors file");
  add_seed(*app, *c);
  add_budget(*app, *c);
  add_machine(*app, *c);
  add_json(*app, *c);
  return {app, [c, o] { return bench(*c, *o); }};
}

}  // namespace

int run_command_line(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);   // a reader that is gone is an exit code
  CLI::App app{about, "gradc"};
  app.footer(exits);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "help of all verbs");
  const std::vector<Verb> verbs{train_verb(app), sample_verb(app), check_verb(app),
                                dump_verb(app),  opt_verb(app),    run_verb(app),
                                gradcheck_verb(app), bench_verb(app)};
  if (argc < 2) {
    out(app.help());
    return static_cast<int>(Exit::usage);
  }
  std::vector<std::string_view> names;
  for (const Verb& v : verbs) names.emplace_back(v.app->get_name());
  const std::string_view word = argv[1];
  if (!word.starts_with("-") && std::find(names.begin(), names.end(), word) == names.end()) {
    const std::string_view meant = nearest(word, names);
    const std::string hint = meant.empty()
                                 ? fmt::format("there are {}", fmt::join(names, ", "))
                                 : fmt::format("did you mean `{}`?", meant);
    return report({}, failure(Exit::usage, fmt::format("there is no verb `{}`; {}", word, hint)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    // The verb's, if there is one.
    return static_cast<int>(out(app.help()) ? Exit::ok : Exit::file);
  } catch (const CLI::CallForAllHelp&) {
    return static_cast<int>(out(app.help("", CLI::AppFormatMode::All)) ? Exit::ok : Exit::file);
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "error: {}\nRun `gradc --help`, or `gradc VERB --help`.\n", e.what());
    return static_cast<int>(Exit::usage);
  }
  for (const Verb& v : verbs)
    if (v.app->parsed()) return v.run();
  return static_cast<int>(Exit::usage);
}

}  // namespace gradc
