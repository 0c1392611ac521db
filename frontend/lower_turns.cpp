// What a repeat's turn is called, and the bundles of its parameters (rule 15).
#include "frontend/lowerer.h"

namespace gradc {

// The function's name, and the bundle's: the label's last word that is no turn.
std::string Lowerer::repeat_name(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  const auto flush = [&] {
    const bool plain =
        !word.empty() && word.find('@') == std::string::npos && !(word[0] >= '0' && word[0] <= '9');
    if (plain) words.push_back(word);
    word.clear();
  };
  for (char c : text)
    if (c == '.')
      flush();
    else
      word += c;
  flush();
  if (words.empty()) words.emplace_back("turn");
  // A second `layers` is `decoder_layers`, if that is what its label says.
  std::string name = words.back();
  words.pop_back();
  while (!words.empty() && repeat_names_.contains(name)) {
    name = words.back() + "_" + name;
    words.pop_back();
  }
  const std::string wish = name;
  for (int i = 2; !repeat_names_.insert(name).second; ++i) name = wish + "_" + std::to_string(i);
  return name;
}

Lowerer::Turns Lowerer::open_turns(const std::string& name) {
  // A turn that is unrolled finds the bundles of the first one.
  auto& inner = inner_[graph_.instances[instance_].trained];
  if (cursor_.inner == inner.size()) {
    const auto first = static_cast<std::uint32_t>(graph_.bundles.size());
    for (const std::uint32_t parent :
         {graph_.instances[instance_].trained, graph_.instances[instance_].fixed})
      graph_.bundles.push_back({.parent = parent, .name = name});
    inner_[graph_.instances[instance_].trained].emplace_back(first, first + 1);
    inner_.resize(graph_.bundles.size());
    member_names_.resize(graph_.bundles.size());
  }
  const auto [trained, fixed] = inner_[graph_.instances[instance_].trained][cursor_.inner++];
  return {trained, fixed, cursor_.trained, cursor_.fixed};
}

// Behind the turns: their bundles become members of the one around, unless they are empty.
void Lowerer::close_turns(Turns& t, std::int64_t turns, Span at) {
  const auto close = [&](std::uint32_t bundle, std::uint32_t& cursor) {
    if (graph_.bundles[bundle].members.empty()) return;
    const std::uint32_t parent = graph_.bundles[bundle].parent;
    std::vector<ParamMember>& members = graph_.bundles[parent].members;
    if (cursor == members.size()) {
      const std::string name = free_member(parent, graph_.bundles[bundle].name, true);
      graph_.bundles[bundle].name = name;
      members.push_back({.name = name, .at = at, .nested = bundle, .turns = turns});
    }
    ++cursor;
  };
  t.trained_slot = cursor_.trained;
  t.fixed_slot = cursor_.fixed;
  close(t.trained, cursor_.trained);
  close(t.fixed, cursor_.fixed);
}

}  // namespace gradc
