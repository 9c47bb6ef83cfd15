def test_a(raw, live):
    raw.customer(name="x")
    print(raw.events())
def test_b(client):
    print(client.v1.customers.create({"name": "s"}))
