// One pass of Nish over an array, on one thread, in each instruction set that it is compiled for.
//
//     nish(x) = x                            for x >= 0
//               sigmoid(x) (x + sin x)       for x <  0                     (Eq. 3 of the paper)
//
// Against float64, each result is right within 4 units in the last place or 1e-7, whichever is larger. NaN, infinities,
// zeros of either sign and subnormal numbers are exact. Half precision is IEEE's, as its bits: computed in float32 and
// rounded once, to nearest even.

#pragma once

#include <cstddef>
#include <cstdint>

namespace taijitu {

// y[i] = nish(x[i]) for i < count; x and y may be the same array.
struct NishPass {
    const char* instruction_set;
    void (*floats)(const float* x, float* y, std::size_t count);
    void (*halves)(const std::uint16_t* x, std::uint16_t* y, std::size_t count);
};

extern const NishPass kNishPassBaseline;  // SSE2, NEON, or whatever the compiler makes of it
extern const NishPass kNishPassAvx2;
extern const NishPass kNishPassAvx512;

// Those that this processor can run, the fastest first, and a null after the last; settled when the library is loaded.
extern const NishPass* const* const kNishPasses;

}  // namespace taijitu
