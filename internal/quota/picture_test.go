package quota

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// The size of a picture, and of its plot within it.
const (
	pictureWidth, pictureHeight = 760.0, 300.0
	plotLeft, plotTop           = 56.0, 44.0
	plotWidth, plotHeight       = 680.0, 200.0
	mostPictureBytes            = 24 << 10
)

// The colours of a picture: what happened, what must not be exceeded or was refused, and all that only explains.
const (
	blue = "#0b69c7"
	red  = "#c92a2a"
	grey = "#868e96"
	pale = "#e9ecef"
	dark = "#212529"
)

// picture is a diagram in SVG.
type picture struct {
	b        strings.Builder
	maxX     float64
	maxY     float64
	labelled float64
}

func newPicture(title, xName, yName string, maxX, stepX, maxY, stepY float64) *picture {
	p := &picture{maxX: maxX, maxY: maxY, labelled: plotLeft}
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12" fill="%s" role="img">`+"\n",
		pictureWidth, pictureHeight, dark)
	fmt.Fprintf(&p.b, "<title>%s</title>\n", title)
	fmt.Fprintf(&p.b, `<rect width="%g" height="%g" fill="#ffffff"/>`+"\n", pictureWidth, pictureHeight)
	p.text(plotLeft, 18, "start", dark, title)
	for y := 0.0; y <= maxY; y += stepY {
		p.line(0, y, maxX, y, pale, "")
		p.text(plotLeft-6, p.y(y)+4, "end", dark, fmt.Sprintf("%g", y))
	}
	for x := 0.0; x <= maxX; x += stepX {
		p.text(p.x(x), plotTop+plotHeight+16, "middle", dark, fmt.Sprintf("%g", x))
	}
	p.text(plotLeft+plotWidth, plotTop+plotHeight+34, "end", dark, xName)
	p.text(plotLeft, 36, "start", grey, yName)
	return p
}

func (p *picture) x(x float64) float64 { return plotLeft + x/p.maxX*plotWidth }
func (p *picture) y(y float64) float64 { return plotTop + plotHeight - min(y/p.maxY, 1)*plotHeight }

func (p *picture) text(x, y float64, anchor, colour, text string) {
	fmt.Fprintf(&p.b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, text)
}

func (p *picture) line(x1, y1, x2, y2 float64, colour, more string) {
	fmt.Fprintf(&p.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"%s/>`+"\n", p.x(x1), p.y(y1), p.x(x2), p.y(y2), colour, more)
}

// limit draws a dashed line across the plot.
func (p *picture) limit(y float64, colour string) {
	p.line(0, y, p.maxX, y, colour, ` stroke-dasharray="6 4"`)
}

// steps draws one value for each stretch of the given width.
func (p *picture) steps(values []float64, width float64, colour string) {
	fmt.Fprintf(&p.b, `<path fill="none" stroke="%s" stroke-width="1.4" d="M%.1f %.1f`, colour, p.x(0), p.y(0))
	for i, v := range values {
		fmt.Fprintf(&p.b, "V%.1fH%.1f", p.y(v), p.x(float64(i+1)*width))
	}
	p.b.WriteString("\"/>\n")
}

// bar draws one bar.
func (p *picture) bar(x, width, height float64, colour string) {
	fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n",
		p.x(x), p.y(height), width/p.maxX*plotWidth, plotTop+plotHeight-p.y(height), colour)
}

// explain adds an entry to the line below the plot.
func (p *picture) explain(colour, text string) {
	const perLetter = 6.4
	y := plotTop + plotHeight + 34
	fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="10" height="10" fill="%s"/>`+"\n", p.labelled, y-9, colour)
	p.text(p.labelled+15, y, "start", dark, text)
	p.labelled += 15 + perLetter*float64(len(text)) + 12
}

// write stores the picture, and returns an error if it is not what a browser shows.
func (p *picture) write(folder, name string) error {
	text := p.b.String() + "</svg>\n"
	if len(text) > mostPictureBytes {
		return fmt.Errorf("%s has %d bytes", name, len(text))
	}
	for reader := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := reader.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600)
}

// per counts times in stretches of the given width, as a rate per unit.
func per(times []time.Duration, width, lasts time.Duration, unit float64) []float64 {
	counts := make([]float64, int(lasts/width))
	for _, at := range times {
		if i := int(at / width); i < len(counts) {
			counts[i] += unit
		}
	}
	return counts
}

// pictureFolder is where pictures go: where PACE_PICTURES says, or nowhere in particular.
func pictureFolder(t *testing.T) string {
	t.Helper()
	if folder := os.Getenv("PACE_PICTURES"); folder != "" {
		return folder
	}
	return t.TempDir()
}

// TestPictureOfScale draws what arrives at the upstream while a fleet has eight members, one, eight, one and eight again.
func TestPictureOfScale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, burst, stage, stages, width = 400, 40, 5 * time.Second, 5, 100 * time.Millisecond
		w := newWorld(Settings{Ceiling: rate, Burst: burst}, 3).settled()
		p := newPicture("A fleet of 8, 1, 8, 1 and 8 workers, 400 calls a second with bursts of 40", "seconds",
			"calls in 100 ms", (stages * stage).Seconds(), 5, 100, 20)
		for i := range stages {
			members := 8
			if i%2 == 1 {
				members = 1
			}
			p.bar(float64(i)*stage.Seconds(), stage.Seconds(), float64(members), pale)
			for _, r := range w.replicas[min(members, len(w.replicas)):] {
				r.stop()
			}
			w.replicas = w.replicas[:min(members, len(w.replicas))]
			for len(w.replicas) < members {
				w.backlog(w.add(), 120)
			}
			time.Sleep(stage)
		}
		w.end()
		require.Zero(t, worstExcess(w.calls, rate, burst))
		arrived := per(w.calls, width, stages*stage, 1)
		for _, n := range arrived {
			require.LessOrEqual(t, n, rate*width.Seconds()+burst)
		}
		p.steps(arrived, width.Seconds(), blue)
		p.limit(rate*width.Seconds()+burst, red)
		p.explain(blue, "calls of all workers")
		p.explain(red, "the most that 100 ms may hold")
		p.explain(pale, "workers")
		require.NoError(t, p.write(pictureFolder(t), "scale.svg"))
	})
}

// TestPictureOfHiddenLimit draws how a fleet finds the limit of an upstream that nobody knows.
func TestPictureOfHiddenLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, lasts = 137, 80 * time.Second
		w := newWorld(Settings{Ceiling: 1000, Burst: 10}, 1)
		u := &upstream{rate: limit, room: 14, level: 14, last: time.Now()}
		var mu sync.Mutex
		var refused []time.Duration
		for range 4 {
			r := w.add()
			for range 100 {
				w.running.Go(func() {
					q := &query.Query{Provider: query.EasyPay, Lane: query.Bulk, Client: "shop"}
					for r.Wait(r.ctx, q) == nil {
						sent, at := r.Clock().Wall, time.Since(w.start)
						if u.call(w.start) {
							continue
						}
						mu.Lock()
						refused = append(refused, at)
						mu.Unlock()
						time.Sleep(40 * time.Millisecond)
						r.Throttled(easy, sent, 0)
					}
				})
			}
		}
		time.Sleep(lasts)
		w.end()
		p := newPicture("An upstream takes 137 calls a second and tells nobody; the ceiling is 1000 a second", "seconds",
			"calls a second", lasts.Seconds(), 10, 200, 50)
		p.limit(limit, dark)
		p.steps(per(u.taken, time.Second, lasts, 1), 1, blue)
		for i, n := range per(refused, time.Second, lasts, 1) {
			if n > 0 {
				p.bar(float64(i), 1, n, red)
			}
		}
		p.explain(dark, "the limit")
		p.explain(blue, "taken")
		p.explain(red, fmt.Sprintf("refused: %d of %d", len(refused), len(refused)+len(u.taken)))
		require.NotEmpty(t, refused)
		require.Less(t, len(refused), len(u.taken)/50)
		require.NoError(t, p.write(pictureFolder(t), "limit.svg"))
	})
}

// TestPictureOfClients draws what clients of very different appetite get.
func TestPictureOfClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const clients, rate, lasts = 20, 200, 20 * time.Second
		w := newWorld(Settings{Ceiling: rate, Burst: 20}, 5).settled()
		r := w.add()
		var got [clients]atomic.Int64
		waiting := 0
		for client := range clients {
			for range 4 + 5*client {
				waiting++
				w.running.Go(func() {
					q := &query.Query{Lane: query.Bulk, Client: fmt.Sprint("client", client)}
					for r.Wait(r.ctx, q) == nil {
						got[client].Add(1)
					}
				})
			}
		}
		time.Sleep(lasts)
		w.end()
		p := newPicture("Twenty clients that always have between 4 and 99 queries waiting at one worker", "clients, by how many queries wait",
			"calls in 20 s", clients, clients, 400, 100)
		fair := rate * lasts.Seconds() / clients
		for client := range clients {
			n := float64(got[client].Load())
			require.InDelta(t, fair, n, fair/10)
			p.bar(float64(client)+0.1, 0.38, n, blue)
			p.bar(float64(client)+0.52, 0.38, fair*clients*float64(4+5*client)/float64(waiting), pale)
		}
		p.explain(blue, "got")
		p.explain(pale, "first come, first served would give")
		require.NoError(t, p.write(pictureFolder(t), "clients.svg"))
	})
}

// TestPictureIsChecked gives a picture what no browser shows.
func TestPictureIsChecked(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	spoilt := newPicture("a < b", "x", "y", 1, 1, 1, 1)
	require.Error(t, spoilt.write(folder, "spoilt.svg"))
	long := newPicture("a", "x", "y", 1, 1, 1, 1)
	long.steps(make([]float64, mostPictureBytes), 1, blue)
	require.Error(t, long.write(folder, "long.svg"))
	written, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, written)
	require.InDelta(t, plotTop, long.y(math.Inf(1)), 0, "what is beyond the plot is cut off")
}
