// Looking up and binding of names.
#include "frontend/scope.h"

#include <algorithm>

namespace gradc {

Binding* Scope::find_here(const std::string& name) {
  const auto it = names_.find(name);
  return it == names_.end() ? nullptr : &it->second;
}

Binding* Scope::find(const std::string& name) {
  for (Scope* s = this; s != nullptr; s = s->outer_)
    if (Binding* b = s->find_here(name)) return b;
  return nullptr;
}

Binding& Scope::bind(const std::string& name, Binding binding) {
  const auto [it, fresh] = names_.try_emplace(name);
  binding.order = fresh ? names_.size() : it->second.order;
  it->second = std::move(binding);
  return it->second;
}

bool Scope::bound_once(const std::string& name) const {
  const auto it = facts_->bound.find(name);
  return it == facts_->bound.end() || it->second <= 1;
}

std::vector<std::string_view> Scope::names() const {
  std::vector<std::string_view> out;
  for (const Scope* s = this; s != nullptr; s = s->outer_)
    for (const auto& [name, binding] : s->names_) out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::pair<const std::string*, Binding*>> Scope::in_order() {
  std::vector<std::pair<const std::string*, Binding*>> out;
  for (auto& [name, binding] : names_) out.emplace_back(&name, &binding);
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return a.second->order < b.second->order; });
  return out;
}

}  // namespace gradc
