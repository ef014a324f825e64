"""What tests share: data, releases and records made for them."""
