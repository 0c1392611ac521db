# Writes the library's files as raw string literals: {"name", R"grad(text)grad"}, one an entry. What
# `file(READ)` gives and a quoted argument passes on is the file byte for byte, `;`, `[` and `\` among it;
# only the end of the literal itself must not stand in a text.
file(WRITE "${OUT}.tmp" "")
foreach(f IN LISTS FILES)
  get_filename_component(name "${f}" NAME)
  file(READ "${f}" text)
  string(REPLACE ")grad\"" ")grad\" \")grad\\\"\" R\"grad(" text "${text}")
  file(APPEND "${OUT}.tmp" "{\"${name}\", R\"grad(${text})grad\"},\n")
endforeach()
file(RENAME "${OUT}.tmp" "${OUT}")
