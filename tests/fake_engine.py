"""A small fake inference engine: vLLM's completions API as far as palate uses it, over a tiny backbone."""

import json
import threading
from contextlib import contextmanager

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from transformers import AutoModelForCausalLM

from app_in_thread import app_in_thread
from engine import as_vllm_reads


class FakeEngine:
    """The fake engine's model, and the faults that tests switch on."""

    def __init__(self, folder, name="tiny"):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.name, self.url = name, ""
        self.asked = []
        """Bodies of the requests for completions."""
        self.failing = []
        """Statuses of the next answers, in the place of a completion."""
        self.wait = threading.Event()
        """Nothing is answered before it is set."""
        self.wait.set()
        self.at_once = self.most_at_once = 0
        self._changing = threading.Lock()

    def steps(self, body):
        """Yield the tokens, with the log-probabilities at each position."""
        read = as_vllm_reads(body["prompt_embeds"], self.model.config, torch.float32)[None]
        for _ in range(body["max_tokens"]):
            chances = self.chances(read, body.get("allowed_token_ids"))
            token = int(chances.argmax())
            yield token, chances
            if token in body["stop_token_ids"]:
                return
            written = self.model.get_input_embeddings()(torch.tensor([[token]])).detach()
            read = torch.cat([read, written], dim=1)

    @torch.no_grad()
    def chances(self, read, allowed):
        """Compute log-probabilities of the next token."""
        chances = self.model(inputs_embeds=read).logits[0, -1].log_softmax(-1)
        if allowed is None:
            return chances
        kept = torch.full_like(chances, -torch.inf)
        kept[allowed] = chances[allowed]
        return kept

    @staticmethod
    def choice(ids, ended, places=(), likeliest=None):
        top = None
        if likeliest is not None:
            top = [
                {f"token_id:{token}": float(one[token]) for token in one.topk(likeliest).indices.tolist()}
                for one in places
            ]
        return {
            "index": 0,
            "text": "",
            "token_ids": ids,
            "finish_reason": "stop" if ended else "length",
            "logprobs": None if top is None else {"top_logprobs": top},
        }

    def completion(self, body):
        written = list(self.steps(body))
        ids = [token for token, _ in written]
        ended = bool(ids) and ids[-1] in body["stop_token_ids"]
        return {"choices": [self.choice(ids, ended, [one for _, one in written], body.get("logprobs"))]}

    def lines(self, body):
        for token, _ in self.steps(body):
            ended = token in body["stop_token_ids"]
            choice = {**self.choice([token], ended), "finish_reason": "stop" if ended else None}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"

    def app(self):
        made = FastAPI()

        @made.get("/v1/models")
        def models():
            return {"object": "list", "data": [{"id": one} for one in self.name.split("+")]}

        @made.post("/v1/completions")
        def completions(body: dict, request: Request):
            with self._changing:
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                self.wait.wait(20)
                if self.failing:
                    status = self.failing.pop(0)
                    error = {"error": {"message": f"status {status}\nas asked for", "type": "x"}}
                    return JSONResponse(error, status, {"Retry-After": "9"})
                self.asked.append({**body, "key": request.headers.get("authorization")})
                if body.get("stream"):
                    return StreamingResponse(self.lines(body), media_type="text/event-stream")
                return self.completion(body)
            finally:
                with self._changing:
                    self.at_once -= 1

        return made


@contextmanager
def engine_listening(folder, name="tiny", port=0):
    """Run a fake engine on a local port, in a thread."""
    engine = FakeEngine(folder, name)
    with app_in_thread(engine.app(), port) as engine.url:
        try:
            yield engine
        finally:
            engine.wait.set()
