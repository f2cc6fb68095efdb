package main

import (
	"io"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"podlane.dev/podlane/config"
)

// newLogger returns the logger of everything but requests. o has been validated.
func newLogger(w io.Writer, o *config.Log) logr.Logger {
	level, err := zapcore.ParseLevel(o.Level)
	if err != nil {
		level = zapcore.InfoLevel
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoder.EncodeDuration = zapcore.StringDurationEncoder
	form := zapcore.NewJSONEncoder(encoder)
	if o.Format == "text" {
		encoder.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder.EncodeLevel = zapcore.CapitalLevelEncoder
		form = zapcore.NewConsoleEncoder(encoder)
	}
	core := zapcore.NewCore(form, zapcore.Lock(zapcore.AddSync(w)), level)
	return zapr.NewLogger(zap.New(core, zap.AddStacktrace(zapcore.DPanicLevel)))
}
