from fastapi import FastAPI, Header, HTTPException

SESSIONS = {
    "ada-session": {"id": 17, "roles": ["member"]},
    "bob-session": {"id": 42, "roles": ["member"]},
    "eve-session": {"id": 99, "roles": ["member"]},
}

app = FastAPI()


@app.get("/internal/session")
async def session(x_session: str = Header(), x_api_key: str = Header()) -> dict[str, object]:
    if x_api_key != "let-me-ask":
        raise HTTPException(403)
    if x_session not in SESSIONS:
        raise HTTPException(401)
    return {"user": SESSIONS[x_session]}
