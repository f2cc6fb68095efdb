package config

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// first returns the first error of a list of checks.
func first(errs ...error) error { return cmp.Or(errs...) }

// atLeast refuses values below the least one that makes sense, which format writes.
func atLeast[T cmp.Ordered](flag string, value, least T, write string) error {
	if value < least {
		return fmt.Errorf("--%s: %v is too small: write %s or more", flag, value, write)
	}
	return nil
}

// objectName checks a namespace/name; "" is allowed.
func objectName(flag, value string) error {
	if value == "" {
		return nil
	}
	namespace, name, ok := strings.Cut(value, "/")
	if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return fmt.Errorf("--%s: %q is not namespace/name: write %s", flag, value, cmp.Or(suggestName(value), "default/web"))
	}
	return nil
}

// suggestName completes a name without a namespace.
func suggestName(value string) string {
	if len(validation.IsDNS1123Subdomain(value)) == 0 {
		return "default/" + value
	}
	return ""
}

// subdomain checks a name such as an IngressClass's.
func subdomain(flag, value, example string) error {
	if len(validation.IsDNS1123Subdomain(value)) > 0 {
		return fmt.Errorf("--%s: %q is not a Kubernetes name: write lower-case letters, digits, \"-\" and \".\", such as %s", flag, value, example)
	}
	return nil
}

// atLeastSize is atLeast for sizes.
func atLeastSize(flag string, value, least Size) error {
	if value < least {
		return fmt.Errorf("--%s: %s is too small: write %s or more", flag, &value, &least)
	}
	return nil
}
