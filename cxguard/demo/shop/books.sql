CREATE TABLE IF NOT EXISTS baskets (
    id         TEXT PRIMARY KEY,
    visitor    TEXT NOT NULL,
    is_open    INTEGER NOT NULL DEFAULT 1,
    created_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS baskets_by_visitor ON baskets (visitor, is_open);

CREATE TABLE IF NOT EXISTS lines (
    basket_id TEXT NOT NULL REFERENCES baskets (id),
    product   TEXT NOT NULL,
    quantity  INTEGER NOT NULL,
    PRIMARY KEY (basket_id, product)
) STRICT;

CREATE TABLE IF NOT EXISTS orders (
    number       INTEGER PRIMARY KEY,
    basket_id    TEXT NOT NULL REFERENCES baskets (id),
    amount_minor INTEGER NOT NULL,
    currency     TEXT NOT NULL,
    email        TEXT NOT NULL,
    payment_id   TEXT NOT NULL UNIQUE,   -- a payment buys one order
    placed_at    REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_basket ON orders (basket_id);
