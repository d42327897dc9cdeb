"""`inspect`: facts of a file, the advice that follows from them, and their forms for people."""
