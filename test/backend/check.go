package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// check is one end of the oracle for the integrity of bodies: it answers with n bytes that depend on the request's id, the
// digest of what was received and the digest of what it sends, and refuses a body that has not the digest of its field
// X-Body-Sha256. With chunked=1 the answer has no length.
func (b *backend) check(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	received := digest(sum)
	if want := r.Header.Get("X-Body-Sha256"); want != "" && want != received {
		http.Error(w, "the body has digest "+received+", want "+want, http.StatusUnprocessableEntity)
		return
	}
	id := r.URL.Query().Get("id")
	body := make([]byte, min(max(number(r, "n", 0), 0), 16<<20))
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte("answer to " + id))).Read(body) // never fails
	sent := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Id", id)
	h.Set("X-Received-Sha256", received)
	h.Set("X-Body-Sha256", hex.EncodeToString(sent[:]))
	if r.URL.Query().Get("chunked") == "" {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	_, _ = w.Write(body)
}
