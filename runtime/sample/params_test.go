package sample

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValidate(t *testing.T) {
	ok := []Params{Defaults(), {}, {Temperature: MaxTemperature, TopK: math.MaxInt32, TopP: 1, MinP: 1, Seed: math.MaxUint64}}
	for _, p := range ok {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, c := range []struct {
		p    Params
		says string
	}{
		{Params{Temperature: -0.1}, "temperature is -0.1, want 0 to 100"},
		{Params{Temperature: 100.5}, "temperature is 100.5"},
		{Params{Temperature: math.NaN()}, "temperature is NaN"},
		{Params{Temperature: math.Inf(1)}, "temperature is +Inf"},
		{Params{TopP: 1.01}, "top_p is 1.01, want 0 to 1"},
		{Params{TopP: -1}, "top_p is -1"},
		{Params{MinP: math.NaN()}, "min_p is NaN, want 0 to 1"},
		{Params{MinP: 2}, "min_p is 2"},
		{Params{TopK: -1}, "top_k is -1, want 0 (off) to 2147483647"},
		{Params{TopK: math.MaxInt32 + 1}, "top_k is 2147483648"},
	} {
		if err := c.p.Validate(); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: error %v, want %q", c.p, err, c.says)
		}
	}
}

// Clamp makes anything valid and leaves what is valid alone.
func TestClamp(t *testing.T) {
	number := rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}))
	rapid.Check(t, func(t *rapid.T) {
		p := Params{number.Draw(t, "temperature"), rapid.Int().Draw(t, "top_k"), number.Draw(t, "top_p"), number.Draw(t, "min_p"), rapid.Uint64().Draw(t, "seed")}
		c := p.Clamp()
		if err := c.Validate(); err != nil {
			t.Fatalf("%+v clamped to %+v: %v", p, c, err)
		}
		if p.Validate() == nil && c != p {
			t.Fatalf("%+v is valid but became %+v", p, c)
		}
		if id := New(p).Sample([]float32{nan, 1, 2, inf}); id != 1 && id != 2 {
			t.Fatalf("%+v: drew %d", p, id)
		}
	})
}

func TestExp(t *testing.T) {
	if expNeg(0) != 1 {
		t.Errorf("exp(0) = %v", expNeg(0))
	}
	if expNeg(math.Inf(-1)) != 0 || expNeg(-1e300) != 0 {
		t.Error("far below, not zero")
	}
	prev := 0.0
	for x := -720.0; x <= 0; x += 0.00137 {
		got, want := expNeg(x), math.Exp(x)
		if x < expMin {
			want = 0
		}
		if math.Abs(got-want) > 1e-15*want {
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
		if got < prev {
			t.Fatalf("exp(%v) = %v, smaller than before", x, got)
		}
		prev = got
	}
}
