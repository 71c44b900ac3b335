// What a custom-op library needs of ONNX Runtime's C ABI, from version 1.17 on: the struct that describes an operator,
// and a few members of the table of functions by their position. The table only grows at its end.

#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;  // null means success
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtShapeInferContext;

using OrtApi = void (*const)();  // one function of the table; each has its own signature, below

struct OrtApiBase {
    OrtApi* (*GetApi)(std::uint32_t version);  // null from a runtime that is older than `version`
    const char* (*GetVersionString)();
};

struct OrtCustomOp {
    std::uint32_t version;
    void* (*CreateKernel)(const OrtCustomOp*, OrtApi*, const OrtKernelInfo*);
    const char* (*GetName)(const OrtCustomOp*);
    const char* (*GetExecutionProviderType)(const OrtCustomOp*);
    int (*GetInputType)(const OrtCustomOp*, std::size_t index);
    std::size_t (*GetInputTypeCount)(const OrtCustomOp*);
    int (*GetOutputType)(const OrtCustomOp*, std::size_t index);
    std::size_t (*GetOutputTypeCount)(const OrtCustomOp*);
    void (*KernelCompute)(void* kernel, OrtKernelContext*);
    void (*KernelDestroy)(void* kernel);
    int (*GetInputCharacteristic)(const OrtCustomOp*, std::size_t index);
    int (*GetOutputCharacteristic)(const OrtCustomOp*, std::size_t index);
    int (*GetInputMemoryType)(const OrtCustomOp*, std::size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp*);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
    OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, OrtApi*, const OrtKernelInfo*, void** kernel);
    OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
    OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
    int (*GetStartVersion)(const OrtCustomOp*);
    int (*GetEndVersion)(const OrtCustomOp*);
    std::size_t (*GetMayInplace)(int** inputs, int** outputs);
    void (*ReleaseMayInplace)(int* inputs, int* outputs);
    std::size_t (*GetAliasMap)(int** inputs, int** outputs);
    void (*ReleaseAliasMap)(int* inputs, int* outputs);
};
static_assert(sizeof(void*) == 8 && sizeof(OrtCustomOp) == 208, "the struct as ONNX Runtime lays it out on 64 bits");

namespace taijitu::ort {

constexpr std::uint32_t kApiVersion = 17;
enum : int { kFail = 1, kInvalidArgument = 2, kNotImplemented = 9 };  // OrtErrorCode
enum : int { kFloat = 1, kFloat16 = 10 };    // ONNXTensorElementDataType
enum : int { kRequired = 0 };                // OrtCustomOpInputOutputCharacteristic
enum : int { kDefaultMemory = 0 };           // OrtMemType: where the execution provider computes

// A function of the table: Member(api)(arguments...).
template <int Position, typename Signature>
struct Member {
    Signature* operator()(OrtApi* api) const { return reinterpret_cast<Signature*>(api[Position]); }
};

constexpr Member<0, OrtStatus*(int code, const char* message)> CreateStatus{};
constexpr Member<26, OrtStatus*(const char* name, OrtCustomOpDomain**)> CreateCustomOpDomain{};
constexpr Member<27, OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)> CustomOpDomain_Add{};
constexpr Member<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)> AddCustomOpDomain{};
constexpr Member<51, OrtStatus*(OrtValue*, void**)> GetTensorMutableData{};
constexpr Member<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t*)> GetDimensionsCount{};
constexpr Member<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t)> GetDimensions{};
constexpr Member<64, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t*)> GetTensorShapeElementCount{};
constexpr Member<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)> GetTensorTypeAndShape{};
constexpr Member<90, OrtStatus*(const OrtKernelContext*, std::size_t, const OrtValue**)> KernelContext_GetInput{};
constexpr Member<91, OrtStatus*(OrtKernelContext*, std::size_t, const std::int64_t*, std::size_t, OrtValue**)>
    KernelContext_GetOutput{};
constexpr Member<99, void(OrtTensorTypeAndShapeInfo*)> ReleaseTensorTypeAndShapeInfo{};
constexpr Member<193, OrtStatus*(const OrtKernelContext*, void** stream)> KernelContext_GetGPUComputeStream{};
constexpr Member<274, OrtStatus*(const OrtKernelContext*, void (*)(void* user, std::size_t i), std::size_t total,
                                 std::size_t batches, void* user)>
    KernelContext_ParallelFor{};

}  // namespace taijitu::ort
