package metal

import "unsafe"

// The kernels of the deepseek4 graph: names, argument structs, bindings.
//
// Notation: T tokens of the batch, n tokens of one sequence starting at batch
// row Row and position Pos; S = HC streams of width Dim; matrices are row-major
// [rows][cols]. Activations are float32. Argument structs hold fixed-width
// fields only, so that every driver agrees on their layout. "grid" is the
// number of threadgroups.
const (
	// EmbedArgs; weights, tokens i32[T] -> streams [T][HC*Dim]. grid T.
	KernelEmbed = "embed_tokens"
	// RopeTableArgs; frequencies f64[2][Rot/2] (plain base, then the compressed
	// layers'), positions i32[T] -> table f32[T][2][Rot/2][2] (cos, sin). grid T.
	KernelRopeTable = "rope_table"
	// MixArgs; streams, mix [T][2HC+HC*HC], base, scale[3], norm[Dim]
	// -> x [T][Dim] normed input of the sublayer, post [T][HC], comb [T][HC][HC]. grid T.
	KernelHyperMix = "hyper_mix"
	// MixArgs; streams, mix [T][HC], base, scale[1], norm[Dim] -> x [T][Dim]. grid T.
	KernelHyperHead = "hyper_head"
	// MixArgs; y [T][Dim], post, comb -> streams in place. grid T.
	KernelHyperApply = "hyper_apply"
	// NormArgs; weight [N] -> x [T][N] in place. grid T.
	KernelRMSNorm = "rms_norm"
	// QuantizeArgs; x [T][N] -> int8 blocks [T][N/Int8Block][Int8Bytes]. grid T.
	KernelQuantize = "quantize_int8"
	// MatmulArgs; weights, x [T][Stride] -> out [T][OutStride].
	// grid (ceil(Rows/MatmulPanel), ceil(Tokens/Block)).
	KernelMatmul = "matmul"
	// MatmulArgs; Q8_0, Q4_K, Q2_K or IQ2_XXS weights, int8 blocks of x -> out. grid as above.
	KernelMatmulInt8 = "matmul_int8"
	// QueryArgs; table -> q [T][Heads*Width] in place: norm per head (if Norm), rope. grid T.
	KernelQuery = "query_prepare"
	// KVArgs; kv [T][Width], weight[Width], table -> raw ring [Cap][Width]. grid n.
	KernelKVStore = "kv_store"
	// CompressArgs; kv [T][lanes*Width], gate, ape [Ratio][lanes*Width], frontier in,
	// norm[Width], frequencies f64[2][Rot/2] -> rows [..][Width], F16 with FlagF16;
	// or, with FlagFP4, panels of IndexPanelBytes each. grid = windows closed.
	KernelCompress = "compress_rows"
	// CompressArgs; kv, gate, ape, frontier in -> frontier out. grid 1.
	KernelFrontier = "compress_frontier"
	// IndexArgs with FlagFP4; queries [T][IndexHeads*Width] in place: Hadamard, FP4
	// -> exact int8 blocks of them. grid T.
	KernelIndexQuery = "index_query"
	// IndexArgs; queries, weights [T][IndexHeads], rows -> selected i32[T][TopK]. With
	// FlagFP4, int8 blocks of the queries, and the panels that KernelCompress makes.
	// grid ceil(Tokens/IndexTokens).
	KernelIndexSelect = "index_select"
	// AttentionArgs; q, raw ring, compressed rows (F16 with FlagF16), selected, sinks, table -> out [T][Heads*Width].
	// grid (n, ceil(Heads/AttentionHeads)).
	KernelAttention = "attention"
	// RouteArgs; logits [T][Experts], bias, tokens, hash routes -> ids i32[T][Used], weights f32[T][Used]. grid T.
	KernelRoute = "route"
	// RouteArgs; ids -> order i32[T*Used] (slots by expert), offsets i32[Experts+1]. grid 1.
	KernelGroup = "group_by_expert"
	// ExpertArgs; gate, up, order, offsets, x [T][Cols] (or its int8 blocks)
	// -> hidden, work [slots][Rows]. grid (ceil(Rows/MatmulPanel), experts), or as many
	// as there are slots if ExpertArgs.Experts is set.
	KernelExpertGateUp     = "expert_gate_up"
	KernelExpertGateUpInt8 = "expert_gate_up_int8"
	// ExpertArgs; down, order, offsets, hidden [slots][Cols] (or its int8 blocks)
	// -> out [slots][Rows]. grid as above.
	KernelExpertDown     = "expert_down"
	KernelExpertDownInt8 = "expert_down_int8"
	// CombineArgs; routed [T*Used][Dim], weights [T][Used], shared [T][Dim] -> y [T][Dim]. grid T.
	KernelCombine = "expert_combine"
	// GatherArgs; in [T][N], rows i32[n] -> out [n][N]. grid n.
	KernelGather = "gather_rows"
)

// MatmulPanel is how many weight rows one threadgroup of a matrix product does.
const MatmulPanel = 32

// IndexTokens is how many tokens one threadgroup of KernelIndexSelect does.
const IndexTokens = 8

// AttentionHeads is how many heads one threadgroup of attention does.
const AttentionHeads = 8

// Int8Block is how many values share a scale when activations are int8.
const Int8Block = 32

// Int8Bytes is the size of an int8 block: its scale, sums, and the codes. What is
// where is the driver's business.
const Int8Bytes = 16 + Int8Block

// EmbedArgs are the arguments of KernelEmbed.
type EmbedArgs struct {
	Type    uint32 // quant type of the weights
	Dim, HC uint32
	Vocab   uint32
}

// RopeTableArgs are the arguments of KernelRopeTable.
type RopeTableArgs struct{ Rot uint32 }

// MixArgs are the arguments of the hyper-connection kernels.
type MixArgs struct {
	Dim, HC    uint32
	Iterations uint32
	HCEps      float32
	NormEps    float32
}

// NormArgs are the arguments of KernelRMSNorm.
type NormArgs struct {
	N   uint32
	Eps float32
}

// QuantizeArgs are the arguments of KernelQuantize. N is a multiple of Int8Block.
type QuantizeArgs struct{ N uint32 }

// MatmulArgs are the arguments of the matrix products. Output row r reads
// input columns [r/GroupRows*Cols, +Cols): GroupRows == Rows unless the matrix
// is block-diagonal.
type MatmulArgs struct {
	Type      uint32
	Rows      uint32
	Cols      uint32
	Tokens    uint32
	Stride    uint32 // values per input row
	OutStride uint32 // values per output row
	GroupRows uint32
	Block     uint32 // tokens per threadgroup
}

// QueryArgs are the arguments of KernelQuery.
type QueryArgs struct {
	Heads, Width, Rot uint32
	Norm              uint32 // 1: weightless norm per head first
	Table             uint32 // 0: plain rope, 1: the compressed layers'
	Eps               float32
}

// Flags of simulated low precision.
const (
	FlagFP8 = 1 << iota // FP8 round trip of the un-rotated part
	FlagF16             // F16 rounding of the whole row; compressed rows are kept as F16
	FlagFP4             // Hadamard and FP4 round trip; rows are kept in panels
)

// KVArgs are the arguments of KernelKVStore.
type KVArgs struct {
	Width, Rot uint32
	Row        uint32 // first batch row of the sequence
	Pos        uint32 // its position
	Cap        uint32 // rows of the ring
	Table      uint32
	Flags      uint32
	Eps        float32
}

// CompressArgs are the arguments of KernelCompress and KernelFrontier.
//
// A frontier is [slots][2][lanes*Width] float32 (kv, then gate with ape), slots =
// 2*Ratio for ratio 4 (previous window, then open window) and Ratio otherwise.
type CompressArgs struct {
	Width, Rot uint32
	Ratio      uint32
	Row, Pos   uint32
	Tokens     uint32 // new tokens of the sequence
	Flags      uint32
	Eps        float32
}

// IndexArgs are the arguments of KernelIndexQuery and KernelIndexSelect.
type IndexArgs struct {
	Heads, Width uint32
	Row, Pos     uint32
	Tokens       uint32 // of the sequence
	Ratio        uint32
	TopK         uint32
	Flags        uint32
}

// AttentionArgs are the arguments of KernelAttention. Ratio 0 means raw rows
// only; TopK 0 means all visible compressed rows.
type AttentionArgs struct {
	Heads, Width, Rot uint32
	Row, Pos          uint32
	Cap               uint32
	Window            uint32
	Ratio             uint32
	TopK              uint32
	Table             uint32
	Flags             uint32
}

// RouteArgs are the arguments of KernelRoute and KernelGroup. Hash != 0 takes
// the experts from the token's row of the hash routes; HasBias != 0 adds the
// bias for selection.
type RouteArgs struct {
	Experts, Used uint32
	Tokens        uint32
	Hash, HasBias uint32
	Scale         float32
}

// ExpertArgs are the arguments of the expert products. A slot is one
// (token, choice) pair: slot/Used is the token.
type ExpertArgs struct {
	Type, TypeUp uint32 // Type is that of gate, or of down
	Rows, Cols   uint32
	Used         uint32
	Clamp        float32
	// Experts, if not 0, is the number of experts of a grid of slots: the group of
	// a slot that is its expert's first does that expert, and others nothing.
	Experts uint32
}

// CombineArgs are the arguments of KernelCombine.
type CombineArgs struct{ Dim, Used uint32 }

// GatherArgs are the arguments of KernelGather.
type GatherArgs struct{ N uint32 }

// ArgBytes views an argument struct as the bytes that Dispatch copies.
func ArgBytes[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}
