package browser

import (
	"fmt"
	"image"
	"image/color"
	"strings"
)

// contrastScript finds texts that are hard to read: those whose colour has less
// contrast against what is painted behind them than WCAG asks of normal text. What
// is behind a text is the nearest background of the elements around it, or inside
// of a drawing the last shape before it that lies under its middle.
const contrastScript = `(() => {
	const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
	const parse = (text) => {
		const m = text.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
		if (m) return [+m[1], +m[2], +m[3], m[4] === undefined ? 1 : +m[4]];
		canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
		const p = canvas.getImageData(0, 0, 1, 1).data;
		return [p[0], p[1], p[2], p[3] / 255];
	};
	const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
	const light = (c) => {
		const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
	const behind = (e) => {
		const layers = [];
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c[3] > 0) layers.push(c);
			if (c[3] === 1) break;
		}
		return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255, 1]);
	};
	const inDrawing = (text) => {
		let c = behind(text.closest('svg'));
		const t = text.getBoundingClientRect(), x = t.x + t.width / 2, y = t.y + t.height / 2;
		for (const shape of text.closest('svg').querySelectorAll('rect, path, circle, text')) {
			if (shape === text) break;
			const s = shape.getBoundingClientRect(), style = getComputedStyle(shape);
			if (shape.tagName === 'text' || style.fill === 'none' || x < s.left || x > s.right || y < s.top || y > s.bottom) continue;
			const f = parse(style.fill);
			c = over([f[0], f[1], f[2], f[3] * style.opacity * style.fillOpacity], c);
		}
		return c;
	};
	const found = new Map();
	let texts = 0;
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || ['TITLE', 'SCRIPT', 'STYLE', 'title'].includes(e.tagName) || !e.checkVisibility({visibilityProperty: true})) continue;
		const drawn = e.namespaceURI.endsWith('svg'), style = getComputedStyle(e), under = drawn ? inDrawing(e) : behind(e);
		const r = ratio(over(parse(drawn ? style.fill : style.color), under), under);
		texts++;
		if (r < 4.5) found.set(r.toFixed(2) + ': ' + e.tagName + '.' + (e.getAttribute('class') || '') + ' "' + walker.currentNode.data.trim().slice(0, 30) + '"', 0);
	}
	return {texts, found: [...found.keys()].slice(0, 20)};
})()`

// CheckReadable fails the test for every text with less contrast than 4.5 to 1.
func (p *Page) CheckReadable() {
	p.t.Helper()
	var got struct {
		Texts int
		Found []string
	}
	p.Eval(contrastScript, &got)
	if got.Texts == 0 {
		p.t.Error("browser: the page shows no text")
	}
	for _, text := range got.Found {
		p.t.Errorf("browser: contrast of %s", text)
	}
}

// CheckFits fails the test if the page is wider than the window, and names what is.
func (p *Page) CheckFits() {
	p.t.Helper()
	var wide []string
	p.Eval(`(() => {
		const room = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= room) return [];
		const scrolls = (e) => e && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
		return ['the page is ' + document.documentElement.scrollWidth + ' wide, the window ' + room].concat(
			[...document.body.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > room + 1 && !scrolls(e))
				.slice(0, 5).map((e) => e.tagName + '.' + e.getAttribute('class')));
	})()`, &wide)
	for _, text := range wide {
		p.t.Errorf("browser: too wide: %s", text)
	}
}

// CheckQuiet fails the test for every error of the console, and for every request
// whose address does not begin with one of those given.
func (p *Page) CheckQuiet(allowed ...string) {
	p.t.Helper()
	for _, text := range p.Problems() {
		p.t.Errorf("browser: console: %s", text)
	}
next:
	for _, url := range p.Requests() {
		for _, prefix := range append(allowed, "data:", "about:") {
			if strings.HasPrefix(url, prefix) {
				continue next
			}
		}
		p.t.Errorf("browser: the page asked for %s", url)
	}
}

// Colours counts the pixels of a picture by the colour that they are nearest to, of
// those given as CSS variables of the page such as --fail. Pixels that are near none
// count for "".
func (p *Page) Colours(img *image.RGBA, variables ...string) map[string]int {
	p.t.Helper()
	const near = 24 // of each channel: edges are smoothed
	values := make(map[string]color.RGBA)
	for _, name := range variables {
		var text string
		p.Eval(fmt.Sprintf(`getComputedStyle(document.documentElement).getPropertyValue(%q).trim()`, name), &text)
		var c color.RGBA
		if _, err := fmt.Sscanf(text, "#%02x%02x%02x", &c.R, &c.G, &c.B); err != nil {
			p.t.Fatalf("browser: colour %s is %q", name, text)
		}
		values[name] = c
	}
	away := func(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }
	counts := make(map[string]int)
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			pixel := img.RGBAAt(x, y)
			hit, least := "", near
			for name, c := range values {
				if d := max(away(pixel.R, c.R), away(pixel.G, c.G), away(pixel.B, c.B)); d < least {
					hit, least = name, d
				}
			}
			counts[hit]++
		}
	}
	return counts
}
