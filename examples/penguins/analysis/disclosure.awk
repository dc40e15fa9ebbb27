# What output checkers ask for: no count below 8 leaves, and the others are
# rounded to the nearest 5, so that none can be had by taking sums apart.

function small(n) { return n < 8 }

function rounded(n) { return small(n) ? "[REDACTED]" : 5 * int(n / 5 + 0.5) }
