# Writes a hash of the sources that decide what machine code a kernel gets, as a string literal: object
# files in a cache that another compiler wrote are not this one's. Names count, so that a file that is
# renamed or removed does too.
set(all "")
foreach(f IN LISTS FILES)
  file(SHA256 "${f}" hash)
  get_filename_component(name "${f}" NAME)
  string(APPEND all "${name} ${hash}\n")
endforeach()
string(SHA256 hash "${all}")
file(WRITE "${OUT}.tmp" "\"${hash}\"\n")
file(RENAME "${OUT}.tmp" "${OUT}")
