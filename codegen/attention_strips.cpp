// Which parts of a tile a mask leaves something of.
#include "codegen/attention.h"

namespace gradc {

TileStrips::TileStrips(Emitter& e, const Scores& s, TileMask& mask, Scratch& scratch)
    : e_(e), s_(s), mask_(mask) {
  for (Side* side : {&rows_, &keys_}) {
    side->from = scratch.take(DType::i64, strips);
    side->to = scratch.take(DType::i64, strips);
  }
}

void TileStrips::find(const Point& plane, const TileMask::Tile& tile) {
  llvm::Value* rows = e_.add(e_.ir.CreateSub(tile.row_last, tile.row), 1);
  llvm::Value* keys = e_.add(e_.ir.CreateSub(tile.key_last, tile.key), 1);
  e_.loop(0, strips, 1, [&](llvm::Value* i) {
    for (const Side* side : {&rows_, &keys_}) {
      put(side->from, i, e_.i64(s_.tile_keys));
      put(side->to, i, e_.i64(0));
    }
  });
  e_.loop(e_.i64(0), e_.ceil_div(rows, strip), 1, [&](llvm::Value* r) {
    llvm::Value* row = e_.mul(r, strip);
    llvm::Value* row_end = e_.min(e_.add(row, strip), rows);
    e_.loop(e_.i64(0), e_.ceil_div(keys, strip), 1, [&](llvm::Value* k) {
      llvm::Value* key = e_.mul(k, strip);
      llvm::Value* key_end = e_.min(e_.add(key, strip), keys);
      TileMask::Tile part = tile;
      part.row = e_.add(tile.row, row);
      part.row_last = e_.add(e_.add(tile.row, row_end), -1);
      part.key = e_.add(tile.key, key);
      part.key_last = e_.add(e_.add(tile.key, key_end), -1);
      e_.when(mask_.judge(plane, part).possible, [&] {
        put(rows_.from, r, e_.min(get(rows_.from, r), key));
        put(rows_.to, r, e_.max(get(rows_.to, r), key_end));
        put(keys_.from, k, e_.min(get(keys_.from, k), row));
        put(keys_.to, k, e_.max(get(keys_.to, k), row_end));
      });
    });
  });
}

void TileStrips::each(const Side& side, llvm::Value* count, Body body) const {
  e_.loop(e_.i64(0), e_.ceil_div(count, strip), 1, [&](llvm::Value* i) {
    llvm::Value *first = e_.mul(i, strip), *from = get(side.from, i), *to = get(side.to, i);
    e_.when(e_.ir.CreateICmpSLT(from, to),
            [&] { body({first, e_.min(e_.i64(strip), e_.ir.CreateSub(count, first)), from, to}); });
  });
}

void TileStrips::clear_rest(llvm::Value* base, DType dtype) const {
  const auto clear = [&](llvm::Value* row, llvm::Value* from, llvm::Value* to) {
    e_.loop(from, to, strip, [&](llvm::Value* key) {
      for (int c = 0; c < strip; c += s_.lanes)
        e_.store(e_.constant(dtype, 0, s_.lanes),
                 e_.at(base, e_.add(e_.add(e_.mul(row, s_.tile_keys), key), c), dtype), dtype,
                 s_.lanes);
    });
  };
  e_.loop(0, tile_rows, 1, [&](llvm::Value* row) {
    llvm::Value* r = e_.ir.CreateUDiv(row, e_.i64(strip));
    clear(row, e_.i64(0), get(rows_.from, r));
    // The last 16 of a range may be cut short by the end of the keys.
    clear(row, e_.mul(e_.ceil_div(get(rows_.to, r), strip), strip), e_.i64(s_.tile_keys));
  });
}

llvm::Value* TileStrips::get(llvm::Value* of, llvm::Value* i) const {
  return e_.load(e_.at(of, i, DType::i64), DType::i64, 1);
}
void TileStrips::put(llvm::Value* of, llvm::Value* i, llvm::Value* x) const {
  e_.store(x, e_.at(of, i, DType::i64), DType::i64, 1);
}

}  // namespace gradc
