// The library that ONNX Runtime loads: SessionOptions.register_custom_ops_library.

#include "nish_op.h"
#include "nish_pass.h"
#if defined(TAIJITU_CUDA)
#include "nish_cuda.h"
#endif

namespace taijitu {
namespace {

// Elements for one task: some microseconds of work, beside about one that it takes to hand a task to a thread.
constexpr std::size_t kTask = 16384;

void nish(const float* x, float* y, std::size_t count) { kNishPasses[0]->floats(x, y, count); }

void nish(const std::uint16_t* x, std::uint16_t* y, std::size_t count) { kNishPasses[0]->halves(x, y, count); }

template <typename Element>
OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    Tensors tensors;
    if (OrtStatus* failed = open(api_of(kernel), context, tensors)) return failed;
    const std::size_t tasks = (tensors.count + kTask - 1) / kTask;
    const auto task = [](void* user, std::size_t i) {
        const Tensors& all = *static_cast<const Tensors*>(user);
        const std::size_t begin = i * kTask;
        const std::size_t length = all.count - begin < kTask ? all.count - begin : kTask;
        nish(static_cast<const Element*>(all.x) + begin, static_cast<Element*>(all.y) + begin, length);
    };
    if (tasks > 1) return ort::KernelContext_ParallelFor(api_of(kernel))(context, task, tasks, 0, &tensors);
    if (tasks == 1) task(&tensors, 0);
    return nullptr;
}

const char* cpu(const OrtCustomOp*) { return "CPUExecutionProvider"; }

// ONNX Runtime keeps pointers to them for as long as a session lives.
const OrtCustomOp kFloatOp = nish_op<ort::kFloat>(cpu, compute<float>);
const OrtCustomOp kHalfOp = nish_op<ort::kFloat16>(cpu, compute<std::uint16_t>);

#if defined(TAIJITU_CUDA)
template <typename Element>
OrtStatus* compute_cuda(void* kernel, OrtKernelContext* context) {
    Tensors tensors;
    void* stream = nullptr;
    if (OrtStatus* failed = open(api_of(kernel), context, tensors)) return failed;
    if (OrtStatus* failed = ort::KernelContext_GetGPUComputeStream(api_of(kernel))(context, &stream)) return failed;
    const char* error =
        queue_nish(static_cast<const Element*>(tensors.x), static_cast<Element*>(tensors.y), tensors.count, stream);
    return error ? ort::CreateStatus(api_of(kernel))(ort::kFail, error) : nullptr;
}

const char* cuda(const OrtCustomOp*) { return "CUDAExecutionProvider"; }

const OrtCustomOp kCudaFloatOp = nish_op<ort::kFloat>(cuda, compute_cuda<float>);
const OrtCustomOp kCudaHalfOp = nish_op<ort::kFloat16>(cuda, compute_cuda<std::uint16_t>);
#endif

}  // namespace
}  // namespace taijitu

// The domain has to outlive the session, whose end we are not told: it is some hundred bytes a session, never freed.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
    using namespace taijitu;
    OrtApi* api = base->GetApi(ort::kApiVersion);
    if (!api) return ort::CreateStatus(base->GetApi(1))(ort::kNotImplemented, "taijitu::Nish: needs ONNX Runtime 1.17");
    OrtCustomOpDomain* domain = nullptr;
    OrtStatus* failed = ort::CreateCustomOpDomain(api)("taijitu", &domain);
    if (!failed) failed = ort::CustomOpDomain_Add(api)(domain, &kFloatOp);
    if (!failed) failed = ort::CustomOpDomain_Add(api)(domain, &kHalfOp);
#if defined(TAIJITU_CUDA)
    if (!failed) failed = ort::CustomOpDomain_Add(api)(domain, &kCudaFloatOp);
    if (!failed) failed = ort::CustomOpDomain_Add(api)(domain, &kCudaHalfOp);
#endif
    if (!failed) failed = ort::AddCustomOpDomain(api)(options, domain);
    return failed;
}
