package model

import "strings"

// Numerics selects the simulated low precision of the forward pass. All flags
// off is float32 arithmetic throughout ("reference").
type Numerics struct {
	// KVFP8 rounds the un-rotated part of every raw and compressed KV row
	// through FP8 E4M3 with power-of-two scales per 64 values.
	KVFP8 bool
	// KVF16 rounds whole KV rows to F16 after that.
	KVF16 bool
	// IndexerFP4 applies the Hadamard transform and the FP4 round trip to
	// indexer queries and rows.
	IndexerFP4 bool
	// ActInt8 rounds activations to int8 per 32 values where the weights are
	// Q8_0, Q4_K, Q2_K or IQ2_XXS, so that the products are integer sums.
	ActInt8 bool
}

// Reference is float32 without simulated rounding: compare it with other
// float implementations.
var Reference = Numerics{}

// Production is what the model was trained for, with integer matrix products.
var Production = Numerics{KVFP8: true, KVF16: true, IndexerFP4: true, ActInt8: true}

// ParseNumerics reads "reference", "production", or a comma-separated list of
// kvFP8, kvF16, indexerFP4, actInt8.
func ParseNumerics(s string) (Numerics, error) {
	switch s {
	case "reference":
		return Reference, nil
	case "production", "":
		return Production, nil
	}
	var n Numerics
	for word := range strings.SplitSeq(s, ",") {
		switch strings.TrimSpace(word) {
		case "kvFP8":
			n.KVFP8 = true
		case "kvF16":
			n.KVF16 = true
		case "indexerFP4":
			n.IndexerFP4 = true
		case "actInt8":
			n.ActInt8 = true
		default:
			return Numerics{}, &NumericsError{Word: word}
		}
	}
	return n, nil
}

// NumericsError reports a word that ParseNumerics does not know.
type NumericsError struct{ Word string }

func (e *NumericsError) Error() string {
	return `model: unknown numerics "` + e.Word + `": want reference, production, or a list of kvFP8, kvF16, indexerFP4, actInt8`
}

// String is the form that ParseNumerics reads.
func (n Numerics) String() string {
	switch n {
	case Reference:
		return "reference"
	case Production:
		return "production"
	}
	var words []string
	for _, f := range []struct {
		on   bool
		name string
	}{{n.KVFP8, "kvFP8"}, {n.KVF16, "kvF16"}, {n.IndexerFP4, "indexerFP4"}, {n.ActInt8, "actInt8"}} {
		if f.on {
			words = append(words, f.name)
		}
	}
	return strings.Join(words, ",")
}
