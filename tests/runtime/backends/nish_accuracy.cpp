// Every pass of the native Nish that this processor can run, against float64: nish_accuracy [STRIDE]
//
// Takes each STRIDE-th float32 of [-120, 120] (default 97), every half-precision number, and what is special. Prints
// the worst error of each pass as a share of what is allowed; exits with 1 if any is above 1, or a special not exact.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "half.h"
#include "nish_pass.h"

using namespace taijitu;

static double exact(double x) { return x >= 0 ? x : (x + std::sin(x)) / (1 + std::exp(-x)); }

// 4 units in the last place, or 1e-7.
static double allowed(double y) {
    int exponent;
    std::frexp(y, &exponent);
    return std::max(4 * std::ldexp(1.0, std::max(exponent, -125) - 24), 1e-7);
}

static double worst_float(const NishPass& pass, std::uint32_t stride, float& where) {
    constexpr std::size_t kBlock = 4099;  // not a multiple of any vector, so that the rest is seen too
    std::vector<float> x, y(kBlock);
    double worst = 0;
    const std::uint32_t last = bits_as<std::uint32_t>(120.0f);
    for (const std::uint32_t sign : {0u, 0x80000000u})
        for (std::uint32_t size = 0; size <= last; size += stride) {
            x.push_back(bits_as<float>(size | sign));
            if (x.size() < kBlock && size + stride <= last) continue;
            pass.floats(x.data(), y.data(), x.size());
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double share = std::fabs(y[i] - exact(x[i])) / allowed(exact(x[i]));
                if (!(share <= worst)) worst = share, where = x[i];
                if (x[i] >= 0 && y[i] != x[i]) worst = 1e9, where = x[i];
            }
            x.clear();
        }
    return worst;
}

// In units in the last place of the half: 0.5 is right rounding; 0.05 for float32's error.
static double worst_half(const NishPass& pass, float& where) {
    std::vector<std::uint16_t> x, y;
    for (std::uint32_t half = 0; half < 0x10000; ++half) x.push_back(static_cast<std::uint16_t>(half));
    y.resize(x.size());
    pass.halves(x.data(), y.data(), x.size());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i] <= 0x8000 || x[i] > 0xfc00) {  // nothing below zero: the very same bits, NaN's too
            if (y[i] != x[i]) worst = 1e9, where = float_from_half(x[i]);
            continue;
        }
        const double should = x[i] == 0xfc00 ? 0.0 : exact(float_from_half(x[i]));
        int exponent;
        std::frexp(should, &exponent);
        const double unit = std::ldexp(1.0, std::max(exponent, -13) - 11);
        const double units = std::fabs(float_from_half(y[i]) - should) / unit;
        if (!(units <= worst)) worst = units, where = float_from_half(x[i]);
    }
    return worst;
}

// The very same bits; but the zero that ends the negative branch may have either sign.
static bool same(float value, float should, bool either_sign) {
    return std::memcmp(&value, &should, sizeof value) == 0 || (either_sign && value == 0 && should == 0);
}

// Prints what is not exact, one a line; how many.
static int wrong_specials(const NishPass& pass) {
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    constexpr float tiny = std::numeric_limits<float>::denorm_min(), normal = std::numeric_limits<float>::min();
    const float unchanged[] = {0.0f, -0.0f, inf, tiny, -tiny, normal, -normal, 0.75f * normal, -0.75f * normal, 3e38f};
    const float zero[] = {-inf, -3e38f, -1000.0f, -150.0f};
    int wrong = 0;
    const auto check = [&](float x, float should) {
        float y[37];  // every place in a vector, and in the rest
        for (float& value : y) value = x;
        pass.floats(y, y, 37);
        for (const float value : y)
            if (!same(value, should, x < 0)) {
                std::printf("nish(%g) is %g\n", x, value);
                ++wrong;
                return;
            }
    };
    for (const float x : unchanged) check(x, x);
    for (const float x : zero) check(x, 0.0f);
    check(nan, nan);
    check(-nan, -nan);
    return wrong;
}

namespace taijitu {
extern const NishPass kNishPassCuda;  // nish_accuracy_cuda.cu
}

int main(int argc, char** argv) {
    const std::uint32_t stride = argc > 1 ? static_cast<std::uint32_t>(std::atoi(argv[1])) : 97;
    std::vector<const NishPass*> passes;
    for (const NishPass* const* pass = kNishPasses; *pass; ++pass) passes.push_back(*pass);
#if defined(TAIJITU_CUDA)
    passes.push_back(&kNishPassCuda);
#endif
    bool right = true;
    for (const NishPass* pass : passes) {
        float where = 0, where_half = 0;
        const double share = worst_float(*pass, stride, where), units = worst_half(*pass, where_half);
        std::printf("%-8s  float32: %.3f of the allowed error, at %.9g;  float16: %.4f units, at %g\n",
                    pass->instruction_set, share, where, units, where_half);
        right = wrong_specials(*pass) == 0 && share <= 1 && units <= 0.55 && right;
    }
    return right ? 0 : 1;
}
