// The GPU's kernels as one more pass for nish_accuracy.cpp, compiled with TAIJITU_CUDA.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

#include "nish_cuda.h"
#include "nish_pass.h"

using namespace taijitu;

static void check(const char* error) {
    if (!error) return;
    std::printf("CUDA: %s\n", error);
    std::exit(1);
}

static void check(cudaError_t error) { check(error == cudaSuccess ? nullptr : cudaGetErrorString(error)); }

template <typename Element>
static void on_gpu(const Element* x, Element* y, std::size_t count) {
    Element* memory = nullptr;
    check(cudaMalloc(&memory, count * sizeof(Element)));
    check(cudaMemcpy(memory, x, count * sizeof(Element), cudaMemcpyHostToDevice));
    check(queue_nish(memory, memory, count, nullptr));
    check(cudaMemcpy(y, memory, count * sizeof(Element), cudaMemcpyDeviceToHost));
    check(cudaFree(memory));
}

namespace taijitu {
extern const NishPass kNishPassCuda = {"CUDA", on_gpu<float>, on_gpu<std::uint16_t>};
}
