/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - the command line of kvworker.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kvd/kvd.h>
#include "tools/kvworker/options.h"

#define MAX_CHUNK 65536
#define MAX_THREADS 1024

enum {
	OPT_MODEL = 256,
	OPT_SOCKET,
	OPT_PROMPT_FILE,
	OPT_PROMPT_IDS,
	OPT_SERVE,
	OPT_GENERATE,
	OPT_PPL,
	OPT_CALIBRATE,
	OPT_MAX_BYTES,
	OPT_FORMAT,
	OPT_DEMOTE,
	OPT_PAGE_TOKENS,
	OPT_PROFILE,
	OPT_EXACT_PAGES,
	OPT_EXACT_LAYERS,
	OPT_OPEN_FORMAT,
	OPT_V_GROUP,
	OPT_TILE_ORDER,
	OPT_CHUNK,
	OPT_THREADS,
	OPT_MATRICES,
	OPT_LOGITS,
	OPT_JSON,
	OPT_NO_MATCH,
	OPT_NO_PUBLISH,
	OPT_WAIT_MS,
	OPT_COLD_TOO,
	OPT_HOLD,
	OPT_PROGRESS,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "model", required_argument, NULL, OPT_MODEL },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "prompt-file", required_argument, NULL, OPT_PROMPT_FILE },
	{ "prompt-ids", required_argument, NULL, OPT_PROMPT_IDS },
	{ "serve", no_argument, NULL, OPT_SERVE },
	{ "generate", required_argument, NULL, OPT_GENERATE },
	{ "ppl", required_argument, NULL, OPT_PPL },
	{ "calibrate", required_argument, NULL, OPT_CALIBRATE },
	{ "max-bytes", required_argument, NULL, OPT_MAX_BYTES },
	{ "format", required_argument, NULL, OPT_FORMAT },
	{ "demote", required_argument, NULL, OPT_DEMOTE },
	{ "page-tokens", required_argument, NULL, OPT_PAGE_TOKENS },
	{ "profile", required_argument, NULL, OPT_PROFILE },
	{ "exact-pages", required_argument, NULL, OPT_EXACT_PAGES },
	{ "exact-layers", required_argument, NULL, OPT_EXACT_LAYERS },
	{ "open-format", required_argument, NULL, OPT_OPEN_FORMAT },
	{ "v-group", required_argument, NULL, OPT_V_GROUP },
	{ "tile-order", required_argument, NULL, OPT_TILE_ORDER },
	{ "chunk", required_argument, NULL, OPT_CHUNK },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "matrices", required_argument, NULL, OPT_MATRICES },
	{ "logits", required_argument, NULL, OPT_LOGITS },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "no-match", no_argument, NULL, OPT_NO_MATCH },
	{ "no-publish", no_argument, NULL, OPT_NO_PUBLISH },
	{ "wait-ms", required_argument, NULL, OPT_WAIT_MS },
	{ "cold-too", no_argument, NULL, OPT_COLD_TOO },
	{ "hold", no_argument, NULL, OPT_HOLD },
	{ "progress", no_argument, NULL, OPT_PROGRESS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

static const char usage[] =
"Usage: kvworker [OPTION]... MODEL_DIR\n"
"Run a Llama model (config.json, *.safetensors) with its KV cache in kvd.\n"
"\n"
"One of:\n"
"  --prompt-file FILE  continue a text (byte models, vocabulary 256: the\n"
"                      prompt is token 0, then the file's bytes)\n"
"  --prompt-ids FILE   continue token ids, separated by white space\n"
"  --serve             continue each line of standard input (a text, or ids\n"
"                      where the model is no byte model), answer with a line\n"
"                      of JSON: as --json, or an object with \"error\" alone\n"
"  --ppl FILE          loss of a text under a byte model, in independent\n"
"                      windows of 1024 bytes\n"
"\n"
"Calibration:\n"
"  --calibrate FILE    write a profile to FILE instead, of the text that\n"
"                      --ppl or --prompt-ids names (see kvctl calibrate)\n"
"\n"
"Text:\n"
"  --generate N        tokens to generate, greedily (32; 0: prompt only)\n"
"  --max-bytes N       use the first N bytes of --ppl's file\n"
"  --logits FILE       write the logits of the prompt's computed tokens, as\n"
"                      f32 [tokens][vocabulary]\n"
"\n"
"KV cache:\n"
"  --socket PATH       of kvd (KVD_SOCKET, else the system's)\n"
"  --format NAME       f16 (default), bf16, fp8, int8, int4, int4h, kivi4,\n"
"                      kivi2, kvquant4, kvquant3, kvquant2, kvarn44, kvarn42,\n"
"                      kvarn33, kvarn22, oscar2; or k=NAME,v=NAME\n"
"  --demote NAME       what pages nobody holds are stored in when memory is\n"
"                      short, before they are given up: fewer bits than\n"
"                      --format, such as int4 for int8, kivi2 for kivi4\n"
"  --profile FILE      of kvctl calibrate; kvquant and oscar2 need one\n"
"  --exact-pages N     first pages that stay in 16 bits (0; 1 with formats\n"
"                      of 2 and 3 bits and kvquant)\n"
"  --exact-layers LIST layers that stay in 16 bits: 0,5\n"
"  --open-format NAME  of these and of pages being filled: f16 or bf16\n"
"  --v-group N         channels of V with one scale in kivi: 32, 64, 128\n"
"  --tile-order NAME   of codes in pages: row, or mma, which fast kernels of\n"
"                      CUDA read (head_dim: a multiple of 32); by default\n"
"                      mma on a GPU where it can be, else row\n"
"  --page-tokens N     32, 64 (default) or 128\n"
"  --chunk N           tokens of prefill at a time (512); changes no result\n"
"  --no-match          take no prefix from the pool\n"
"  --no-publish        leave no prefix in the pool\n"
"  --wait-ms N         wait for so long for a prefix that another worker is\n"
"                      computing (10000; 0: compute it too)\n"
"  --cold-too          first compute the prompt alone once, for comparison\n"
"\n"
"  --model DIR         the same as MODEL_DIR\n"
"  --threads N         of matrices and attention (1)\n"
"  --matrices WHERE    cpu, gpu (the whole forward pass on the pool's GPU,\n"
"                      by libcublas), or auto (default): gpu where it can be\n"
"  --json              print one JSON object\n"
"  --hold              keep the pages until standard input ends\n"
"  --progress          say how far it is, also when stderr is no terminal\n"
"  --help, --version\n"
"\n"
"Exit status: 0; 1 when something failed; 2 on a usage error.\n";

__attribute__((noreturn, format(printf, 1, 2))) static void
usage_error(const char *fmt, ...)
{
	va_list ap;

	fputs("kvworker: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs(" (try --help)\n", stderr);
	exit(USAGE_ERROR);
}

static uint64_t parse_number(const char *option, const char *text,
			     uint64_t min, uint64_t max)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *end || strchr(text, '-') || n < min ||
	    n > max)
		usage_error("--%s %s: not a number from %llu to %llu", option,
			    text, (unsigned long long)min,
			    (unsigned long long)max);
	return n;
}

static void parse_formats(const char *option, const char *text,
			  uint32_t *ret_k, uint32_t *ret_v)
{
	if (kvd_formats_parse(text, ret_k, ret_v))
		usage_error("--%s %s: no such format, nor k=NAME,v=NAME",
			    option, text);
}

static uint32_t parse_open_format(const char *name)
{
	int format = kvd_format_parse(name);

	if (format != KVD_F16 && format != KVD_BF16)
		usage_error("--open-format %s: not f16 or bf16", name);
	return (uint32_t)format;
}

static uint32_t parse_v_group(const char *text)
{
	uint64_t n = parse_number("v-group", text, 32, 128);

	if (n & (n - 1))
		usage_error("--v-group %s: not 32, 64 or 128", text);
	return (uint32_t)n;
}

static uint32_t parse_tile_order(const char *name)
{
	if (!strcmp(name, "row"))
		return KVD_TILE_ROW;
	if (strcmp(name, "mma"))
		usage_error("--tile-order %s: not row or mma", name);
	return KVD_TILE_MMA;
}

static enum matrices parse_matrices(const char *name)
{
	if (!strcmp(name, "auto"))
		return MATRICES_AUTO;
	if (!strcmp(name, "cpu"))
		return MATRICES_CPU;
	if (strcmp(name, "gpu"))
		usage_error("--matrices %s: not cpu, gpu or auto", name);
	return MATRICES_GPU;
}

static uint32_t parse_page_tokens(const char *text)
{
	uint64_t n = parse_number("page-tokens", text, KVD_MIN_PAGE_TOKENS,
				  KVD_MAX_PAGE_TOKENS);

	if (n & (n - 1))
		usage_error("--page-tokens %s: not 32, 64 or 128", text);
	return (uint32_t)n;
}

__attribute__((noreturn)) static void print_and_exit(int opt)
{
	if (opt == OPT_HELP)
		fputs(usage, stdout);
	else
		printf("kvworker %d.%d\n", KVD_VERSION_MAJOR,
		       KVD_VERSION_MINOR);
	exit(0);
}

/* Options that take no argument. */
static void parse_flag(struct options *o, int opt)
{
	switch (opt) {
	case OPT_SERVE:
		o->serve = o->json = true;
		break;
	case OPT_JSON:
		o->json = true;
		break;
	case OPT_NO_MATCH:
		o->no_match = true;
		break;
	case OPT_NO_PUBLISH:
		o->no_publish = true;
		break;
	case OPT_COLD_TOO:
		o->cold_too = true;
		break;
	case OPT_HOLD:
		o->hold = true;
		break;
	case OPT_PROGRESS:
		o->progress = true;
		break;
	case OPT_HELP:
	case OPT_VERSION:
		print_and_exit(opt);
	default: /* getopt has said what is wrong */
		exit(USAGE_ERROR);
	}
}

/* Options of the space; false: it is none. */
static bool parse_kv(struct kv_opts *o, int opt, const char *arg)
{
	switch (opt) {
	case OPT_FORMAT:
		parse_formats("format", arg, &o->k_format, &o->v_format);
		return true;
	case OPT_DEMOTE:
		parse_formats("demote", arg, &o->demote_k, &o->demote_v);
		return true;
	case OPT_PAGE_TOKENS:
		o->page_tokens = parse_page_tokens(arg);
		return true;
	case OPT_PROFILE:
		o->profile = arg;
		return true;
	case OPT_EXACT_PAGES:
		o->exact_pages = (uint32_t)parse_number("exact-pages", arg, 0,
							16);
		return true;
	case OPT_EXACT_LAYERS:
		o->exact_layers = arg;
		return true;
	case OPT_OPEN_FORMAT:
		o->open_format = parse_open_format(arg);
		return true;
	case OPT_V_GROUP:
		o->v_group = parse_v_group(arg);
		return true;
	case OPT_TILE_ORDER:
		o->tile_order = parse_tile_order(arg);
		return true;
	default:
		return false;
	}
}

static void parse_option(struct options *o, int opt, const char *arg)
{
	if (parse_kv(&o->kv, opt, arg))
		return;
	switch (opt) {
	case OPT_MODEL:
		o->model = arg;
		break;
	case OPT_SOCKET:
		o->socket = arg;
		break;
	case OPT_PROMPT_FILE:
		o->prompt_file = arg;
		break;
	case OPT_PROMPT_IDS:
		o->prompt_ids = arg;
		break;
	case OPT_PPL:
		o->ppl = arg;
		break;
	case OPT_CALIBRATE:
		o->calibrate = arg;
		break;
	case OPT_LOGITS:
		o->logits = arg;
		break;
	case OPT_GENERATE:
		o->generate = (uint32_t)parse_number("generate", arg, 0,
						     INT32_MAX);
		break;
	case OPT_MAX_BYTES:
		o->max_bytes = parse_number("max-bytes", arg, 1, INT64_MAX);
		break;
	case OPT_CHUNK:
		o->chunk = (uint32_t)parse_number("chunk", arg, 1, MAX_CHUNK);
		break;
	case OPT_THREADS:
		o->threads = (uint32_t)parse_number("threads", arg, 1,
						    MAX_THREADS);
		break;
	case OPT_WAIT_MS:
		o->wait_ms = (uint32_t)parse_number("wait-ms", arg, 0,
						    UINT32_MAX);
		break;
	case OPT_MATRICES:
		o->matrices = parse_matrices(arg);
		break;
	default:
		parse_flag(o, opt);
	}
}

static void check(struct options *o, int argc, char **argv)
{
	int tasks = !!o->prompt_file + !!o->prompt_ids + !!o->ppl + o->serve;

	if (optind < argc && !o->model)
		o->model = argv[optind++];
	if (optind < argc)
		usage_error("%s: one model directory is enough", argv[optind]);
	if (!o->model)
		usage_error("no model directory given");
	if (tasks != 1)
		usage_error("give one of --prompt-file, --prompt-ids, --serve, "
			    "--ppl");
	if (o->serve && (o->logits || o->hold))
		usage_error("--logits and --hold are for one prompt");
	if (o->calibrate && (o->serve || o->prompt_file || o->logits || o->cold_too))
		usage_error("--calibrate takes its text from --ppl or "
			    "--prompt-ids, and no option of prompts");
	if (o->ppl && (o->logits || o->cold_too))
		usage_error("--logits and --cold-too need a prompt");
}

void options_parse(struct options *o, int argc, char **argv)
{
	int opt;

	*o = (struct options){
		.max_bytes = UINT64_MAX,
		.generate = 32,
		.kv = { .page_tokens = 64,
			.exact_pages = KV_EXACT_AUTO,
			.tile_order = KV_TILE_AUTO },
		.wait_ms = 10000,
		.chunk = 512,
		.threads = 1,
		.progress = isatty(STDERR_FILENO),
	};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		parse_option(o, opt, optarg);
	check(o, argc, argv);
}
