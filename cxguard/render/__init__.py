"""How an answer reaches the shopper: words by locale, then JSON, a page, or a GraphQL response."""
