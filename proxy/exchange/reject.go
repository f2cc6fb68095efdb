package exchange

// Reject is a message that broke a rule of the contract: the request must get the reject procedure (an answer with
// Status, Connection: close, a short drain, and no byte to a Pod). It is an error value made once per rule, so that refusing costs no
// allocation. Detail says which rule, in a few words that hold nothing of the request.
type Reject struct {
	Status int
	Detail string
}

// Error returns the detail.
func (r *Reject) Error() string { return r.Detail }
