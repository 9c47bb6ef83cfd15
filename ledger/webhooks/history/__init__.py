"""What was sent to webhook endpoints and how it went, for operators; and single deliveries sent again."""
