"""The right name for a wrong one: what other programs call a setting, or the setting that is spelt most like it."""

import difflib
from collections.abc import Iterable

# Of transformers, TRL, vLLM, lm-evaluation-harness, OpenAI's clients and uvicorn. The first one that exists counts.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "model_name_or_path": ("model",),
    "model_name": ("model",),
    "model_path": ("model",),
    "model_id": ("model",),
    "pretrained": ("model",),
    "student": ("model",),
    "student_model": ("model",),
    "base_model": ("model",),
    "policy_model": ("model",),
    "max_new_tokens": ("max_response_tokens",),
    "max_tokens": ("max_response_tokens", "max_new_tokens", "max_context_tokens"),
    "max_completion_length": ("max_response_tokens", "max_new_tokens"),
    "max_response_tokens": ("max_new_tokens",),
    "max_response_length": ("max_response_tokens", "max_new_tokens"),
    "response_length": ("max_response_tokens", "max_new_tokens"),
    "max_length": ("max_response_tokens", "max_new_tokens", "max_context_tokens"),
    "max_seq_length": ("max_response_tokens", "max_new_tokens", "max_context_tokens"),
    "max_prompt_length": ("max_prompt_tokens",),
    "max_model_len": ("max_context_tokens",),
    "context_length": ("max_context_tokens",),
    "max_num_batched_tokens": ("max_batch_tokens",),
    "num_generations": ("n",),
    "num_return_sequences": ("n",),
    "num_responses": ("n",),
    "num_samples": ("n",),
    "samples": ("n",),
    "dataset": ("prompts", "scored", "sets"),
    "dataset_name": ("prompts", "scored", "sets"),
    "train_dataset": ("prompts", "scored"),
    "train_file": ("prompts", "scored"),
    "data_path": ("prompts", "scored", "sets"),
    "input": ("prompts", "scored", "sets"),
    "responses": ("sets",),
    "dataset_config": ("subset",),
    "dataset_split": ("split",),
    "dataset_text_field": ("column",),
    "prompt_column": ("column",),
    "system_prompt": ("system",),
    "out": ("output_dir",),
    "output_dir": ("out",),
    "output": ("output_dir", "out"),
    "output_path": ("output_dir", "out"),
    "save_dir": ("output_dir", "out", "data"),
    "out_dir": ("output_dir", "out"),
    "batch_size": ("prompts_per_step", "max_batch_tokens"),
    "sampling_batch_size": ("batch_size",),
    "train_batch_size": ("prompts_per_step",),
    "global_batch_size": ("prompts_per_step",),
    "micro_batch_size": ("per_device_train_batch_size",),
    "steps": ("max_steps",),
    "num_steps": ("max_steps",),
    "epochs": ("num_train_epochs",),
    "num_epochs": ("num_train_epochs",),
    "warmup_ratio": ("warmup_steps",),
    "grad_accum": ("gradient_accumulation_steps",),
    "beta": ("beta_student",),
    "loss_type": ("loss",),
    "lora_r": ("lora",),
    "lora_rank": ("lora",),
    "use_peft": ("lora",),
    "use_lora": ("lora",),
    "peft_config": ("lora",),
    "teacher_url": ("teacher",),
    "teacher_model": ("teacher",),
    "teacher_model_name_or_path": ("teacher",),
    "url": ("teacher",),
    "base_url": ("teacher",),
    "api_base": ("teacher",),
    "endpoint": ("teacher",),
    "api_key": ("key", "keys"),
    "token": ("key", "keys"),
    "job_id": ("job",),
    "run_name": ("job",),
    "num_workers": ("dataloader_num_workers",),
    "chat_template_kwargs": ("template_args",),
    "default_chat_template_kwargs": ("template_args",),
    "enable_thinking": ("template_args",),
    "reward_fn": ("grader",),
    "served_model_name": ("name",),
    "tokenizer": ("model",),
    "backend": ("engine",),
    "gpu": ("device",),
    "torch_dtype": ("dtype",),
    "precision": ("dtype",),
    "tensor_parallel_size": ("vllm.tensor_parallel_size",),
    "gpu_memory_utilization": ("vllm.gpu_memory_utilization",),
    "address": ("host",),
    "bind": ("host",),
    "ssl_certfile": ("tls_certificate",),
    "ssl_keyfile": ("tls_key",),
    "tls_cert": ("tls_certificate",),
    "cache_dir": ("data",),
    "loglevel": ("log_level",),
}


def right_name(wrong: str, known: Iterable[str]) -> str | None:
    """The setting among ``known`` that ``wrong`` was meant to name; None if nothing is like it."""
    there = set(known)
    name = wrong.strip("-").replace("-", "_").lower()
    for each in SYNONYMS.get(name, ()):
        if each.partition(".")[0] in there:
            return each
    near = difflib.get_close_matches(name, sorted(there), 1, cutoff=0.7)
    return near[0] if near else None


def did_you_mean(wrong: str, known: Iterable[str], spelled: str = "{}") -> str:
    """The part of an error after a wrong name; empty if nothing is like it."""
    right = right_name(wrong, known)
    return f"; did you mean {spelled.format(right)}?" if right else ""
