"""HTTP without endpoints: errors, admission, bodies, the OpenAPI document."""
