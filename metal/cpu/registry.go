package cpu

import "ds4/metal"

// registry is what Pipeline can find.
var registry = map[string]kernelFunc{
	metal.KernelEmbed:            embedTokens,
	metal.KernelRopeTable:        ropeTable,
	metal.KernelHyperMix:         hyperMix,
	metal.KernelHyperHead:        hyperHead,
	metal.KernelHyperApply:       hyperApply,
	metal.KernelRMSNorm:          rmsNorm,
	metal.KernelQuantize:         quantizeInt8,
	metal.KernelMatmul:           matmul,
	metal.KernelMatmulInt8:       matmulInt8,
	metal.KernelQuery:            queryPrepare,
	metal.KernelKVStore:          kvStore,
	metal.KernelCompress:         compressRows,
	metal.KernelFrontier:         compressFrontier,
	metal.KernelIndexQuery:       indexQuery,
	metal.KernelIndexSelect:      indexSelect,
	metal.KernelAttention:        attention,
	metal.KernelRoute:            route,
	metal.KernelGroup:            groupByExpert,
	metal.KernelExpertGateUp:     expertGateUp,
	metal.KernelExpertGateUpInt8: expertGateUpInt8,
	metal.KernelExpertDown:       expertDown,
	metal.KernelExpertDownInt8:   expertDownInt8,
	metal.KernelCombine:          expertCombine,
	metal.KernelGather:           gatherRows,
	kernelPack:                   packWeights,
}

// readers are the kernels whose weights can be read ahead.
var readers = map[string]reader{
	metal.KernelMatmul:           {matmulWeights, none},
	metal.KernelMatmulInt8:       {matmulWeights, none},
	metal.KernelExpertGateUp:     {gateUpWeights, 3},
	metal.KernelExpertGateUpInt8: {gateUpWeights, 3},
	metal.KernelExpertDown:       {downWeights, 2},
	metal.KernelExpertDownInt8:   {downWeights, 2},
}
