// The entry of every test binary.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdlib>

// No test reads or fills the user's cache of kernels, in this process or in one that it starts.
static const int apart = setenv("GRADC_CACHE_DIR", GRADC_BUILD "/cache", /*overwrite=*/0);
