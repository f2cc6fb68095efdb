package floods_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2"
)

// D8: frames that bring nothing on (CVE-2019-9511 to 9518): a thousand in ten seconds are let pass.
func TestD8Idle(t *testing.T) {
	for name, write := range map[string]func(c *raw) error{
		"PING":                 func(c *raw) error { return c.fr.WritePing(false, [8]byte{}) },
		"PING ACK":             func(c *raw) error { return c.fr.WritePing(true, [8]byte{}) },
		"SETTINGS":             func(c *raw) error { return c.fr.WriteSettings() },
		"SETTINGS ACK":         func(c *raw) error { return c.fr.WriteSettingsAck() },
		"SETTINGS with values": func(c *raw) error { return c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1}) },
		"empty DATA":           func(c *raw) error { return c.fr.WriteData(1, false, nil) },
		"padding":              func(c *raw) error { return c.fr.WriteDataPadded(1, false, nil, make([]byte, 100)) },
		"PRIORITY":             func(c *raw) error { return c.fr.WritePriority(3, http2.PriorityParam{Weight: 1}) },
		"WINDOW_UPDATE":        func(c *raw) error { return c.fr.WriteWindowUpdate(0, 1) },
		"stream WINDOW_UPDATE": func(c *raw) error { return c.fr.WriteWindowUpdate(1, 1) },
		"unknown":              func(c *raw) error { return c.fr.WriteRawFrame(0x77, 0, 1, []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			withstand(t, attack{code: calm, few: 1200, step: func(c *raw) error {
				if c.next == 1 {
					_, err := c.open("POST", "/hang")
					return err
				}
				return c.gather(func() error { return write(c) })
			}})
		})
	}
}

// D8: frames that have to be answered, of a client that reads no answer. They are kept for it up to a bound.
func TestD8Unread(t *testing.T) {
	for name, write := range map[string]func(c *raw) error{
		"PING":     func(c *raw) error { return c.fr.WritePing(false, [8]byte{}) },
		"SETTINGS": func(c *raw) error { return c.fr.WriteSettings() },
	} {
		t.Run(name, func(t *testing.T) {
			withstand(t, attack{deaf: true, connections: 3, once: true, few: 1200, step: func(c *raw) error { return c.gather(func() error { return write(c) }) }})
		})
	}
}

// D9: a frame size of 0 (CVE-2026-33814) and other values that no peer may set.
func TestD9Settings(t *testing.T) {
	for name, setting := range map[string]http2.Setting{
		"MAX_FRAME_SIZE 0":           {ID: http2.SettingMaxFrameSize, Val: 0},
		"MAX_FRAME_SIZE too large":   {ID: http2.SettingMaxFrameSize, Val: 1 << 24},
		"ENABLE_PUSH 2":              {ID: http2.SettingEnablePush, Val: 2},
		"INITIAL_WINDOW_SIZE":        {ID: http2.SettingInitialWindowSize, Val: 1 << 31},
		"ENABLE_CONNECT_PROTOCOL 17": {ID: http2.SettingEnableConnectProtocol, Val: 17},
	} {
		t.Run(name, func(t *testing.T) {
			code := "PROTOCOL_ERROR"
			if setting.ID == http2.SettingInitialWindowSize {
				code = "FLOW_CONTROL_ERROR"
			}
			withstand(t, attack{code: code, few: 1, step: func(c *raw) error { return c.gather(func() error { return c.fr.WriteSettings(setting) }) }})
		})
	}
}

// D9: frames of every kind with anything in them (CVE-2026-27141 was a panic at kinds 0x0a to 0x0f). Whatever they mean, the engine goes on, and
// who sends enough of them is ended.
func TestD9AnyFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // one attacker uses it at a time
	withstand(t, attack{few: 3000, step: func(c *raw) error {
		kind := http2.FrameType(random.IntN(0x20))
		payload := make([]byte, random.IntN(40))
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		if len(payload) >= 4 && random.IntN(2) == 0 {
			binary.BigEndian.PutUint32(payload, uint32(random.IntN(20)))
		}
		stream := uint32(random.IntN(8))
		if kind == http2.FrameHeaders && random.IntN(4) > 0 {
			_, err := c.open("GET", "/0")
			return err
		}
		return c.gather(func() error { return c.fr.WriteRawFrame(kind, http2.Flags(random.Uint32()), stream, payload) })
	}})
}
