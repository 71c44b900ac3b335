#include "nish_pass.h"
#include "nish_table.h"

namespace taijitu {

const NishTable16 kNishTable16;
const NishTable8 kNishTable8;

namespace {

const NishPass* const* choose() {
#if defined(__x86_64__)
    static const NishPass* const passes[] = {&kNishPassAvx512, &kNishPassAvx2, &kNishPassBaseline, nullptr};
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return passes + (avx2 && avx512 ? 0 : avx2 ? 1 : 2);
#else
    static const NishPass* const passes[] = {&kNishPassBaseline, nullptr};
    return passes;
#endif
}

}  // namespace

const NishPass* const* const kNishPasses = choose();

}  // namespace taijitu
