// Nish below 0 by its formula, for a vector of any width, and for one number, on a processor or a GPU.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define TAIJITU_EVERYWHERE __host__ __device__ inline
#else
#define TAIJITU_EVERYWHERE inline
#endif

namespace taijitu {
namespace {

template <typename To, typename From>
TAIJITU_EVERYWHERE To bits_as(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "bits are read anew, not converted");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// Adding and subtracting 1.5 * 2^23 rounds |x| < 2^22 to an integer, which then stands in the low bits of the sum.
constexpr float kRounder = 12582912.0f;

// Nish of x < 0, as (x + sin x) / (1 + e^-x); any number for other x. Bits: unsigned, of the size of Float.
template <typename Float, typename Bits>
TAIJITU_EVERYWHERE Float nish_formula(Float x) {
    // From -88.38 on e^-x below is infinite, and the result 0.
    const Float floor = Float{} - 88.8f;
    x = x > floor ? x : floor;

    // e^-x = 2^k e^-r, |r| <= ln(2) / 2. The first part of ln 2 has few bits: k times it is exact without an FMA.
    const Float shifted_k = x * -1.44269504f + kRounder;
    const Float k = shifted_k - kRounder;
    const Float r = (x + k * 0.693359375f) + k * -2.12194440e-4f;
    Float e = r * 1.38146e-3f - 8.36872e-3f;  // Remez: relative error 3.1e-9
    e = e * r + 4.166839e-2f;
    e = e * r - 1.6666521e-1f;
    e = e * r + 4.9999993e-1f;
    e = e * r - 1.0f;
    e = e * r + 1.0f;
    e *= bits_as<Float>((bits_as<Bits>(shifted_k) << 23) + 0x3f800000u);

    // sin x = (-1)^q sin t, |t| <= pi / 2; Remez: absolute error 4.6e-9.
    const Float shifted_q = x * 0.318309886f + kRounder;
    const Float q = shifted_q - kRounder;
    const Float t = (x - q * 3.140625f) - q * 9.67653589793e-4f;
    const Float t2 = t * t;
    Float s = t2 * 2.60002448e-6f - 1.98066016e-4f;
    s = s * t2 + 8.33301710e-3f;
    s = s * t2 - 1.66666571e-1f;
    s = s * (t2 * t) + t;
    s = bits_as<Float>(bits_as<Bits>(s) ^ (bits_as<Bits>(shifted_q) << 31));

    return (x + s) / (e + 1.0f);
}

}  // namespace
}  // namespace taijitu
