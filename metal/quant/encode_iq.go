package quant

import "encoding/binary"

// An IQ2_XXS group is 32 values with one 4-bit scale; every eight of them share a
// grid point and a pattern of signs with an even number of minuses.

// Scales tried for a group: the grid levels that its largest magnitude is put on.
// Beyond the largest level it is cut, which often pays for the rest. The last two
// are for groups whose magnitudes are all alike.
var groupTops = [...]float32{78, 66, 57, 51, 45, 41, 25, 8}

const (
	topSteps  = 15 // largest 4-bit scale
	quarter   = 0.25
	halfSteps = 0.5 // the scale is d*(halfSteps+steps)*quarter
)

// iqGroup is a group split into magnitudes and legal signs.
type iqGroup struct {
	mag   [32]float32 // negative where parity forced the wrong sign on a value
	signs [4]uint8    // seven bits each
}

// splitSigns separates 32 values into signs and magnitudes. Where the number of
// minuses is odd the smallest magnitude of the eight takes the wrong sign: that
// costs least.
func splitSigns(v []float32) (g iqGroup) {
	for k := range 4 {
		var minus uint8
		weakest, count := 0, 0
		for j := range 8 {
			x := v[8*k+j]
			g.mag[8*k+j] = abs(x)
			if x < 0 {
				minus |= 1 << j
				count++
			}
			if g.mag[8*k+j] < g.mag[8*k+weakest] {
				weakest = j
			}
		}
		if count%2 == 1 {
			minus ^= 1 << weakest
			g.mag[8*k+weakest] = -g.mag[8*k+weakest]
		}
		g.signs[k] = minus & 127
	}
	return g
}

// nearestPoint is the grid point closest to the eight magnitudes over scale.
func nearestPoint(mag []float32, inv float32) uint8 {
	best, bestErr := 0, float32(-1)
	for p := range gridF32 {
		var e float32
		for j, g := range &gridF32[p] {
			d := mag[j]*inv - g
			e += d * d
		}
		if bestErr < 0 || e < bestErr {
			best, bestErr = p, e
		}
	}
	return uint8(best)
}

// fitGroup finds the scale of one group by least squares over the points that
// several first guesses give.
func fitGroup(g *iqGroup) (scale float32) {
	var amax float32
	for _, m := range g.mag {
		amax = max(amax, m)
	}
	best := float64(-1)
	for _, level := range groupTops {
		inv := inverse(amax / level)
		if inv == 0 {
			return 0
		}
		var dot, norm float64
		for k := range 4 {
			mag := g.mag[8*k : 8*k+8]
			for j, p := range &gridF32[nearestPoint(mag, inv)] {
				dot += float64(mag[j]) * float64(p)
				norm += float64(p) * float64(p)
			}
		}
		// The error left after the best scale is |mag|^2 - dot^2/norm.
		if gain := dot * dot / norm; dot > 0 && gain > best {
			best, scale = gain, float32(dot/norm)
		}
	}
	return scale
}

func encodeIQ2_XXS(dst []byte, src []float32) error {
	var groups [8]iqGroup
	var scales [8]float32
	var top float32
	for i := range groups {
		groups[i] = splitSigns(src[32*i : 32*i+32])
		scales[i] = fitGroup(&groups[i])
		top = max(top, scales[i])
	}
	code, d, err := halfScale(top / ((topSteps + halfSteps) * quarter))
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(dst, code)
	for i := range groups {
		g := &groups[i]
		steps := nearest(scales[i]/quarter*inverse(d)-halfSteps, topSteps)
		inv := inverse(d * (halfSteps + float32(steps)) * quarter)
		out := dst[2+8*i : 10+8*i]
		word := uint32(steps) << 28
		for k := range 4 {
			out[k] = nearestPoint(g.mag[8*k:8*k+8], inv)
			word |= uint32(g.signs[k]) << (7 * k)
		}
		binary.LittleEndian.PutUint32(out[4:], word)
	}
	return nil
}
