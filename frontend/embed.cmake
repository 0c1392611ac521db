# Writes the library's files as raw string literals: {"name", R"grad(text)grad"}, one an entry.
file(WRITE ${OUT}.tmp "")
foreach(f ${FILES})
  get_filename_component(name ${f} NAME)
  file(READ ${f} text)
  file(APPEND ${OUT}.tmp "{\"${name}\", R\"grad(${text})grad\"},\n")
endforeach()
file(RENAME ${OUT}.tmp ${OUT})
