package sandbox

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// canary is a secret that the world handed out. Each contains the word CANARY, so
// that one that leaked is seen even by somebody who does not know it.
type canary struct {
	name  string // whose it is, in words that may be printed
	forms []string
	value string
}

// mark is in every canary, so that a text without it in any disguise, which is
// nearly every text, need not be searched for each of them.
const mark = "CANARY"

// newKeyID makes an access key id: AKIA and 16 characters of base 32.
func (w *World) newKeyID() string { return "AKIA" + w.random("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16) }

// newSecret makes a secret access key: 40 characters of base 64. A slash and a
// plus are always in it: they are what encodings change.
func (w *World) newSecret(name string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	secret := mark + "/" + w.random(alphabet, 16) + "+" + w.random(alphabet, 16)
	w.remember(name, secret)
	return secret
}

func (w *World) newToken(name string) string {
	value := "glpat-" + mark + w.random("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 14)
	w.remember(name, value)
	return value
}

func (w *World) random(alphabet string, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[w.rng.IntN(len(alphabet))]
	}
	return string(out)
}

func (w *World) remember(name, secret string) {
	w.canaries = append(w.canaries, canary{name: name, value: secret, forms: disguises(secret)})
}

// Secrets are all secrets and tokens that the world ever handed out.
func (w *World) Secrets() []string {
	defer w.enter()()
	var all []string
	for _, c := range w.canaries {
		all = append(all, c.value)
	}
	return all
}

// LeaksIn names the secrets that occur in a text: as they are, in base64, in hex,
// or escaped for a URL or for JSON. It names them, so that its answer may be printed.
func (w *World) LeaksIn(text string) []string {
	defer w.enter()()
	return w.leaksIn(text)
}

func (w *World) leaksIn(text string) []string {
	var found []string
	marked := slices.ContainsFunc(w.marks, func(mark string) bool { return strings.Contains(text, mark) })
	for _, c := range w.canaries {
		if !marked && strings.Contains(c.value, mark) {
			continue // there is no canary in it at all
		}
		for _, form := range c.forms {
			if strings.Contains(text, form) {
				found = append(found, c.name)
				break
			}
		}
	}
	return found
}

// disguises are the ways in which a secret may appear in a text.
func disguises(secret string) []string {
	quoted, _ := json.Marshal(secret)
	inner := string(quoted[1 : len(quoted)-1])
	forms := []string{
		secret,
		inner,
		strings.ReplaceAll(inner, "/", `\/`),
		strings.ReplaceAll(strings.ReplaceAll(inner, "/", `\u002f`), "+", `\u002b`),
		url.QueryEscape(secret),
		url.PathEscape(secret),
		hex.EncodeToString([]byte(secret)),
	}
	for shift := range 3 { // where it may stand in a longer text that was encoded
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, base64Core(enc, secret, shift))
		}
	}
	return forms
}

// base64Core is the part of an encoded text that depends on the secret alone, when
// shift bytes stand before it in its group of three.
func base64Core(enc *base64.Encoding, secret string, shift int) string {
	whole := enc.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
	from := (shift*8 + 5) / 6
	to := (shift + len(secret)) * 8 / 6
	return whole[from:to]
}
