// Nish below 0 as a polynomial for each of a few segments, for processors that look up a register of coefficients, one
// for each segment, in one instruction.

#pragma once

#include <cmath>

namespace taijitu {

// The segments are those of the floating-point number z = kShift - x: Segments / 4 to the octave from z = 4 on, so that
// they widen where Nish falls to 0, and the leading bits of z are the number of the segment, modulo Segments. The first
// is centred on x = 0, with value 0 and slope 1 exactly: small x go through unchanged. From z = 32 on all is 0.
template <int Segments, int Degree>
struct NishTable {
    static_assert(Segments == 8 || Segments == 16, "as many as a register holds");
    static constexpr int kDegree = Degree;
    static constexpr int kPerOctave = Segments / 4;
    static constexpr int kFractionBits = Segments == 16 ? 2 : 1;  // of z, which tell the segment
    static constexpr float kShift = 4.0f + 2.0f / kPerOctave;
    static constexpr float kFloor = kShift - 32.0f;

    alignas(64) float minus_centre[Segments] = {};
    alignas(64) float coefficient[Degree + 1][Segments] = {};  // of (x - centre)^degree

    NishTable() {
        for (int i = 0; i < 3 * kPerOctave; ++i) fit(i);
    }

  private:
    // Interpolates at the Chebyshev nodes, which comes close to the best polynomial.
    void fit(int i) {
        const double width = std::ldexp(1.0 / kPerOctave, 2 + i / kPerOctave);
        const double centre = kShift - std::ldexp(1.0, 2 + i / kPerOctave) - (i % kPerOctave + 0.5) * width;
        const double above = i == 0 ? 0.0 : width / 2;  // where the segment ends, seen from its centre
        const int fixed = i == 0 ? 2 : 0;               // coefficients that are not fitted
        const int count = Degree + 1 - fixed;
        double t[Degree + 1], value[Degree + 1];
        for (int j = 0; j < count; ++j) {
            const double node = std::cos(3.14159265358979324 * (j + 0.5) / count);
            t[j] = (above - width / 2) / 2 + (above + width / 2) / 2 * node;
            const double x = centre + t[j];
            value[j] = (x + std::sin(x)) / (1.0 + std::exp(-x));
            if (fixed) value[j] = (value[j] - t[j]) / (t[j] * t[j]);
        }
        for (int order = 1; order < count; ++order)  // Newton's divided differences
            for (int j = count - 1; j >= order; --j) value[j] = (value[j] - value[j - 1]) / (t[j] - t[j - order]);
        double power[Degree + 1] = {};
        for (int j = count - 1; j >= 0; --j) {  // times (t - t[j]), plus value[j]
            for (int k = count - 1; k > 0; --k) power[k] = power[k - 1] - t[j] * power[k];
            power[0] = value[j] - t[j] * power[0];
        }
        const int segment = (i + kPerOctave) % Segments;
        minus_centre[segment] = static_cast<float>(-centre);
        if (fixed) coefficient[1][segment] = 1.0f;
        for (int k = 0; k < count; ++k) coefficient[k + fixed][segment] = static_cast<float>(power[k]);
    }
};

using NishTable16 = NishTable<16, 7>;
using NishTable8 = NishTable<8, 10>;

// Made when the library is loaded.
extern const NishTable16 kNishTable16;
extern const NishTable8 kNishTable8;

}  // namespace taijitu
