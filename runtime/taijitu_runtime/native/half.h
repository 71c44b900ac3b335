// IEEE half precision to float32 and back, on its bits: plain integer arithmetic, which compilers vectorise everywhere.

#pragma once

#include <cstdint>

#include "nish_formula.h"

namespace taijitu {
namespace {

// Exact for every finite half; infinity and NaN become numbers of 65536 and more. 2^112 is the distance between the two
// exponents' biases, and the product makes subnormal halves normal.
inline float float_from_half(std::uint32_t half) {
    const float size = bits_as<float>((half & 0x7fffu) << 13) * 5.192296858534828e33f;
    return bits_as<float>(bits_as<std::uint32_t>(size) | (half & 0x8000u) << 16);
}

// Rounded to nearest even, for |value| < 0.5. Under the smallest normal half, the sum with 0.5 has units of 2^-24, those
// of a subnormal half.
inline std::uint32_t half_from_float(float value) {
    const std::uint32_t sign = bits_as<std::uint32_t>(value) >> 31 << 15;
    const std::uint32_t size = bits_as<std::uint32_t>(value) & 0x7fffffffu;
    const std::uint32_t normal = ((size + 0xfffu + (size >> 13 & 1u)) >> 13) - (112u << 10);
    const std::uint32_t subnormal = bits_as<std::uint32_t>(bits_as<float>(size) + 0.5f) - 0x3f000000u;
    return sign | (size < 0x38800000u ? subnormal : normal);
}

}  // namespace
}  // namespace taijitu
