package clients_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A browser loads a page with 200 objects over one connection of HTTP/2, and uses the rest of what a page may use: WebSocket, events, and
// bodies that are streamed both ways. Certificates are verified.
func TestBrowser(t *testing.T) {
	for _, mode := range []struct {
		name string
		args []string
		// socket is how the access log must name the WebSocket.
		socket logLine
	}{
		{"WebSocket over HTTP/1.1", nil, logLine{Method: http.MethodGet, Protocol: "HTTP/1.1", Status: http.StatusSwitchingProtocols}},
		{"WebSocket over HTTP/2", []string{"--http2-websocket"}, logLine{Method: http.MethodGet, Protocol: "HTTP/2.0", Status: http.StatusSwitchingProtocols}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			p := newPod(t)
			r := newRig(t, p.address(), rigOptions{args: mode.args})
			b := newBrowser(t, r.authority)
			if failed := b.open(strings.Replace(r.secure("/page"), secureHost, "nobody.test", 1)); failed != "net::ERR_CERT_AUTHORITY_INVALID" {
				t.Errorf("a host without a certificate: %q", failed)
			}
			if failed := b.open(r.secure("/page")); failed != "" {
				t.Fatal(failed)
			}
			within := func(name string, test func(b *browser)) {
				t.Run(name, func(t *testing.T) {
					mine := *b
					mine.t = t
					test(&mine)
					b.id = mine.id
				})
			}
			within("page", loadsPage)
			within("events", func(b *browser) { getsEvents(b, p) })
			within("streams", func(b *browser) { streams(b, p) })

			lines := r.lines(pageObjects+1, func(l logLine) bool { return l.Protocol == "HTTP/2.0" })
			for _, l := range lines {
				if l.Client != lines[0].Client {
					t.Errorf("%+v came over another connection than %+v", l, lines[0])
				}
			}
			within("WebSocket", func(b *browser) { usesSocket(b, r, mode.socket) })
			t.Logf("%d requests over one connection of HTTP/2", len(lines))
		})
	}
}

// loadsPage: every object has come and works, and all by HTTP/2.
func loadsPage(b *browser) {
	var got struct {
		Objects, H2, Sheets, Scripts, Images int
		Page                                 string
	}
	b.run(`
		while (document.readyState !== 'complete') await new Promise((done) => addEventListener('load', done, { once: true }));
		const objects = performance.getEntriesByType('resource').filter((e) => e.name.includes('/object/'));
		const style = getComputedStyle(document.documentElement);
		return {
			page: performance.getEntriesByType('navigation')[0].nextHopProtocol,
			objects: objects.length,
			h2: objects.filter((e) => e.nextHopProtocol === 'h2' && e.responseStatus === 200).length,
			sheets: Array.from({ length: 200 }, (_, i) => style.getPropertyValue('--sheet-' + i)).filter((v) => v.trim() === '1').length,
			scripts: window.scripts,
			images: [...document.images].filter((i) => i.complete && i.naturalWidth === 3).length,
		};`, &got)
	if got.Page != "h2" || got.Objects != pageObjects || got.H2 != pageObjects {
		b.t.Errorf("%+v, want %d objects, all by h2", got, pageObjects)
	}
	if got.Sheets != pageObjects/4 || got.Scripts != pageObjects/4 || got.Images != pageObjects/2 {
		b.t.Errorf("not all objects work: %+v", got)
	}
}

// usesSocket: messages of every kind come back, and the close is a clean one. want is how the access log names it.
func usesSocket(b *browser, r *rig, want logLine) {
	var got struct {
		Texts, Binary []int
		Code          int
		Reason        string
		Clean         bool
	}
	b.run(`
		const socket = new WebSocket('wss://' + location.host + '/socket');
		socket.binaryType = 'arraybuffer';
		await new Promise((done, failed) => { socket.onopen = done; socket.onerror = () => failed(new Error('no connection')); });
		const next = () => new Promise((done, failed) => {
			socket.onmessage = (m) => done(m.data);
			socket.onclose = () => failed(new Error('closed'));
		});
		const got = { texts: [], binary: [] };
		for (const size of [0, 5, 125, 126, 65535, 65536, 1 << 20]) {
			const text = 'ü'.repeat(size / 2), bytes = new Uint8Array(size).map((_, i) => i * 7);
			let back = next();
			socket.send(text);
			if (await back !== text) throw new Error('another text of ' + size);
			got.texts.push(size);
			back = next();
			socket.send(bytes);
			const b = new Uint8Array(await back);
			if (b.length !== size || b.some((v, i) => v !== bytes[i])) throw new Error('other bytes of ' + size);
			got.binary.push(size);
		}
		const closed = new Promise((done) => { socket.onclose = done; });
		socket.close(4001, 'enough');
		const end = await closed;
		return { ...got, code: end.code, reason: end.reason, clean: end.wasClean };`, &got)
	if len(got.Texts) != 7 || len(got.Binary) != 7 || got.Code != 4001 || got.Reason != "enough" || !got.Clean {
		b.t.Errorf("%+v", got)
	}
	line := r.lines(1, func(l logLine) bool { return l.Path == "/socket" })[0]
	want.Path, want.Client = line.Path, line.Client
	if line != want {
		b.t.Errorf("the access log has %+v, want %+v", line, want)
	}
}

// getsEvents: an EventSource gets each event when the Pod sends it: the next one is sent when the page has seen the last.
func getsEvents(b *browser, p *pod) {
	const n = 20
	b.run(fmt.Sprintf(`
		window.seen = [];
		window.source = new EventSource('/events?n=%d');
		source.onmessage = (e) => { seen.push(e.lastEventId + ' ' + e.data); if (window.wake) wake(); };
		window.event = async (i) => { while (seen.length <= i) await new Promise((done) => { window.wake = done; }); return seen[i]; };`, n), nil)
	for i := range n {
		p.allow(b.t)
		var got string
		b.run(fmt.Sprintf("return await event(%d);", i), &got)
		if want := fmt.Sprintf("%d event %d", i, i); got != want {
			b.t.Errorf("%q, want %q", got, want)
		}
	}
	b.run("source.close();", nil)
}

// streams: a request whose body is a stream, which browsers send over HTTP/2 alone, and an answer that is read as it comes.
func streams(b *browser, p *pod) {
	var got string
	b.run(`
		let made = 0;
		const body = new ReadableStream({ pull(c) { if (made++ < 200) c.enqueue(new Uint8Array(10000).fill(120)); else c.close(); } });
		const answer = await fetch('/digest', { method: 'POST', body, duplex: 'half' });
		return await answer.text();`, &got)
	const size = 2_000_000
	if want := fmt.Sprintf("%d %s", size, digestOf([]byte(strings.Repeat("x", size)))); got != want {
		b.t.Errorf("the Pod got %q, want %q", got, want)
	}
	b.run(`
		const answer = await fetch('/content', { headers: { range: 'bytes=0-' } });
		const pieces = [];
		for await (const piece of answer.body) pieces.push(piece);
		const all = new Uint8Array(await new Blob(pieces).arrayBuffer());
		const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
		return answer.status + ' ' + Array.from(sum, (v) => v.toString(16).padStart(2, '0')).join('');`, &got)
	if want := fmt.Sprintf("%d %s", http.StatusPartialContent, digestOf(p.content)); got != want {
		b.t.Errorf("the page got %q, want %q", got, want)
	}
	// A page that goes away from an answer cancels it, and the connection lives on.
	// A page that turns away from an answer cancels it, and the connection lives on.
	b.run(`
		window.stop = new AbortController();
		return String((await fetch('/hang?head=1', { signal: stop.signal })).status);`, &got)
	receive(b.t, "the request at the Pod", p.next)
	b.run("stop.abort();", nil)
	receive(b.t, "the Pod to see that the page turned away", p.canceled)
	b.run("return await (await fetch('/hello')).text();", &got)
	if got != "hello\n" {
		b.t.Errorf("%q", got)
	}
}
