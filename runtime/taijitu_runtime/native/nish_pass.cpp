// The passes for one instruction set: this file is compiled once for each, with the flags that allow it.
//
// Nothing here may run on a processor without that instruction set, so nothing here is initialised on loading, and
// everything but the pass is local to the file.

#include "nish_pass.h"

#include <cstring>

#include "half.h"
#include "nish_formula.h"
#include "nish_table.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace taijitu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Float __attribute__((vector_size(4 * kLanes)));
typedef std::uint32_t Bits __attribute__((vector_size(4 * kLanes)));

#if defined(__AVX2__)

#if defined(__AVX512F__)
using Table = NishTable16;
const Table& kTable = kNishTable16;
inline Float larger(Float a, Float b) { return _mm512_max_ps(a, b); }
inline Float look_up(const float* table, Bits i) {
    return _mm512_permutexvar_ps(bits_as<__m512i>(i), _mm512_load_ps(table));
}
#else
using Table = NishTable8;
const Table& kTable = kNishTable8;
inline Float larger(Float a, Float b) { return _mm256_max_ps(a, b); }
inline Float look_up(const float* table, Bits i) {
    return _mm256_permutevar8x32_ps(_mm256_load_ps(table), bits_as<__m256i>(i));
}
#endif

// Nish of x < 0; any number for other x.
inline Float below_zero(Float x) {
    x = larger(x, Float{} + Table::kFloor);
    const Bits segment = bits_as<Bits>(Table::kShift - x) >> (23 - Table::kFractionBits);  // its low bits count
    const Float t = x + look_up(kTable.minus_centre, segment);
    Float y = look_up(kTable.coefficient[Table::kDegree], segment);
    for (int k = Table::kDegree - 1; k >= 0; --k) y = y * t + look_up(kTable.coefficient[k], segment);
    return y;
}

#else

// Nish of x < 0; any number for other x.
inline Float below_zero(Float x) { return nish_formula<Float, Bits>(x); }

#endif

// The comparison is false for NaN, -0 and everything above, which go through unchanged.
inline void block(const float* x, float* y) {
    Float value;
    std::memcpy(&value, x, sizeof value);
    value = value < 0.0f ? below_zero(value) : value;
    std::memcpy(y, &value, sizeof value);
}

void floats(const float* x, float* y, std::size_t count) {
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) block(x + i, y + i);
    if (i < count) {
        float rest[kLanes] = {};
        std::memcpy(rest, x + i, (count - i) * sizeof(float));
        block(rest, rest);
        std::memcpy(y + i, rest, (count - i) * sizeof(float));
    }
}

void halves(const std::uint16_t* x, std::uint16_t* y, std::size_t count) {
    constexpr std::size_t kBlock = 512;
    float wide[kBlock];
    for (std::size_t i = 0; i < count; i += kBlock) {
        const std::size_t length = count - i < kBlock ? count - i : kBlock;
        for (std::size_t j = 0; j < length; ++j) wide[j] = float_from_half(x[i + j]);
        floats(wide, wide, length);
        for (std::size_t j = 0; j < length; ++j) {
            const std::uint32_t original = x[i + j];
            const std::uint32_t rounded = half_from_float(wide[j]);
            const bool is_below = original - 0x8001u < 0x7c00u;  // from just below -0 to -infinity: NaN is beyond
            y[i + j] = static_cast<std::uint16_t>(is_below ? rounded : original);
        }
    }
}

}  // namespace

#if defined(__AVX512F__)
const NishPass kNishPassAvx512 = {"AVX-512", floats, halves};
#elif defined(__AVX2__)
const NishPass kNishPassAvx2 = {"AVX2", floats, halves};
#else
const NishPass kNishPassBaseline = {"baseline", floats, halves};
#endif

}  // namespace taijitu
