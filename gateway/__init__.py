"""The door for clients: OpenAI's Responses API over WebSocket and HTTP, every frame made from the log."""
