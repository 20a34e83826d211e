"""The broker between receiver and processor: its interface, and the adapters."""
