/* The guest's display in an SDL 2 window, with its keyboard and mouse.
 *
 * Everything happens in the display callback, thirty times a second in the
 * thread that runs the guest: events in, picture out. Text screens are drawn
 * again only when they changed. SDL's scan codes are USB usages; the guest
 * wants Linux key codes.
 *
 * SDL is loaded when a window is asked for, not linked: it brings some fifty libraries
 * along, whose loading takes as long as all else that a process does before main().
 */
#include "tools/window.h"

#include <SDL.h>
#include <dlfcn.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"

enum {
	REDRAW_EVERY = 15, /* calls: fonts and palettes change without the text */
	KEYS_MAX = 256,    /* waiting for room in the guest's keyboard */
};

#define SDL_CALLS(X) X(CreateRenderer) X(CreateTexture) X(CreateWindow) \
	X(DestroyRenderer) X(DestroyTexture) X(DestroyWindow) X(GetError) X(Init) \
	X(PollEvent) X(Quit) X(RenderClear) X(RenderCopy) X(RenderPresent) \
	X(RenderSetLogicalSize) X(SetHint) X(SetRelativeMouseMode) \
	X(SetWindowFullscreen) X(SetWindowSize) X(SetWindowTitle) X(UpdateTexture)

#define SDL_LIBRARY "libSDL2-2.0.so.0"

struct sdl {
#define SDL_POINTER(name) typeof(SDL_##name) *name;
	SDL_CALLS(SDL_POINTER)
#undef SDL_POINTER
};

struct key_event {
	uint8_t key;
	bool down;
};

struct window {
	struct gannet *machine; /* borrowed */
	struct sdl sdl;
	SDL_Window *window;
	SDL_Renderer *renderer;
	SDL_Texture *texture;
	unsigned width, height; /* of the texture */
	uint32_t *drawn;        /* what it holds */
	unsigned calls;         /* since the last drawing */
	bool grabbed, fullscreen;
	bool exposed;           /* the window may show anything: draw */
	unsigned buttons;
	bool held[256];         /* keys that are down in the guest */
	struct key_event keys[KEYS_MAX];
	unsigned key_head, key_count;
	size_t shown_size;      /* bytes of `shown` in use; 0: not text */
	struct gannet_screen shown_screen;
	struct gannet_cell shown[256 * 128];
};

static uint8_t key_code(SDL_Scancode code)
{
	static const uint8_t usage[] = {
		[SDL_SCANCODE_A] = KEY_A, [SDL_SCANCODE_B] = KEY_B, [SDL_SCANCODE_C] = KEY_C,
		[SDL_SCANCODE_D] = KEY_D, [SDL_SCANCODE_E] = KEY_E, [SDL_SCANCODE_F] = KEY_F,
		[SDL_SCANCODE_G] = KEY_G, [SDL_SCANCODE_H] = KEY_H, [SDL_SCANCODE_I] = KEY_I,
		[SDL_SCANCODE_J] = KEY_J, [SDL_SCANCODE_K] = KEY_K, [SDL_SCANCODE_L] = KEY_L,
		[SDL_SCANCODE_M] = KEY_M, [SDL_SCANCODE_N] = KEY_N, [SDL_SCANCODE_O] = KEY_O,
		[SDL_SCANCODE_P] = KEY_P, [SDL_SCANCODE_Q] = KEY_Q, [SDL_SCANCODE_R] = KEY_R,
		[SDL_SCANCODE_S] = KEY_S, [SDL_SCANCODE_T] = KEY_T, [SDL_SCANCODE_U] = KEY_U,
		[SDL_SCANCODE_V] = KEY_V, [SDL_SCANCODE_W] = KEY_W, [SDL_SCANCODE_X] = KEY_X,
		[SDL_SCANCODE_Y] = KEY_Y, [SDL_SCANCODE_Z] = KEY_Z,
		[SDL_SCANCODE_1] = KEY_1, [SDL_SCANCODE_2] = KEY_2, [SDL_SCANCODE_3] = KEY_3,
		[SDL_SCANCODE_4] = KEY_4, [SDL_SCANCODE_5] = KEY_5, [SDL_SCANCODE_6] = KEY_6,
		[SDL_SCANCODE_7] = KEY_7, [SDL_SCANCODE_8] = KEY_8, [SDL_SCANCODE_9] = KEY_9,
		[SDL_SCANCODE_0] = KEY_0,
		[SDL_SCANCODE_RETURN] = KEY_ENTER, [SDL_SCANCODE_ESCAPE] = KEY_ESC,
		[SDL_SCANCODE_BACKSPACE] = KEY_BACKSPACE, [SDL_SCANCODE_TAB] = KEY_TAB,
		[SDL_SCANCODE_SPACE] = KEY_SPACE, [SDL_SCANCODE_MINUS] = KEY_MINUS,
		[SDL_SCANCODE_EQUALS] = KEY_EQUAL, [SDL_SCANCODE_LEFTBRACKET] = KEY_LEFTBRACE,
		[SDL_SCANCODE_RIGHTBRACKET] = KEY_RIGHTBRACE, [SDL_SCANCODE_BACKSLASH] = KEY_BACKSLASH,
		[SDL_SCANCODE_NONUSHASH] = KEY_BACKSLASH, [SDL_SCANCODE_SEMICOLON] = KEY_SEMICOLON,
		[SDL_SCANCODE_APOSTROPHE] = KEY_APOSTROPHE, [SDL_SCANCODE_GRAVE] = KEY_GRAVE,
		[SDL_SCANCODE_COMMA] = KEY_COMMA, [SDL_SCANCODE_PERIOD] = KEY_DOT,
		[SDL_SCANCODE_SLASH] = KEY_SLASH, [SDL_SCANCODE_CAPSLOCK] = KEY_CAPSLOCK,
		[SDL_SCANCODE_F1] = KEY_F1, [SDL_SCANCODE_F2] = KEY_F2, [SDL_SCANCODE_F3] = KEY_F3,
		[SDL_SCANCODE_F4] = KEY_F4, [SDL_SCANCODE_F5] = KEY_F5, [SDL_SCANCODE_F6] = KEY_F6,
		[SDL_SCANCODE_F7] = KEY_F7, [SDL_SCANCODE_F8] = KEY_F8, [SDL_SCANCODE_F9] = KEY_F9,
		[SDL_SCANCODE_F10] = KEY_F10, [SDL_SCANCODE_F11] = KEY_F11, [SDL_SCANCODE_F12] = KEY_F12,
		[SDL_SCANCODE_PRINTSCREEN] = KEY_SYSRQ, [SDL_SCANCODE_SCROLLLOCK] = KEY_SCROLLLOCK,
		[SDL_SCANCODE_PAUSE] = KEY_PAUSE, [SDL_SCANCODE_INSERT] = KEY_INSERT,
		[SDL_SCANCODE_HOME] = KEY_HOME, [SDL_SCANCODE_PAGEUP] = KEY_PAGEUP,
		[SDL_SCANCODE_DELETE] = KEY_DELETE, [SDL_SCANCODE_END] = KEY_END,
		[SDL_SCANCODE_PAGEDOWN] = KEY_PAGEDOWN, [SDL_SCANCODE_RIGHT] = KEY_RIGHT,
		[SDL_SCANCODE_LEFT] = KEY_LEFT, [SDL_SCANCODE_DOWN] = KEY_DOWN, [SDL_SCANCODE_UP] = KEY_UP,
		[SDL_SCANCODE_NUMLOCKCLEAR] = KEY_NUMLOCK, [SDL_SCANCODE_KP_DIVIDE] = KEY_KPSLASH,
		[SDL_SCANCODE_KP_MULTIPLY] = KEY_KPASTERISK, [SDL_SCANCODE_KP_MINUS] = KEY_KPMINUS,
		[SDL_SCANCODE_KP_PLUS] = KEY_KPPLUS, [SDL_SCANCODE_KP_ENTER] = KEY_KPENTER,
		[SDL_SCANCODE_KP_1] = KEY_KP1, [SDL_SCANCODE_KP_2] = KEY_KP2, [SDL_SCANCODE_KP_3] = KEY_KP3,
		[SDL_SCANCODE_KP_4] = KEY_KP4, [SDL_SCANCODE_KP_5] = KEY_KP5, [SDL_SCANCODE_KP_6] = KEY_KP6,
		[SDL_SCANCODE_KP_7] = KEY_KP7, [SDL_SCANCODE_KP_8] = KEY_KP8, [SDL_SCANCODE_KP_9] = KEY_KP9,
		[SDL_SCANCODE_KP_0] = KEY_KP0, [SDL_SCANCODE_KP_PERIOD] = KEY_KPDOT,
		[SDL_SCANCODE_NONUSBACKSLASH] = KEY_102ND, [SDL_SCANCODE_APPLICATION] = KEY_COMPOSE,
		[SDL_SCANCODE_INTERNATIONAL1] = KEY_RO, [SDL_SCANCODE_INTERNATIONAL3] = KEY_YEN,
		[SDL_SCANCODE_LCTRL] = KEY_LEFTCTRL, [SDL_SCANCODE_LSHIFT] = KEY_LEFTSHIFT,
		[SDL_SCANCODE_LALT] = KEY_LEFTALT, [SDL_SCANCODE_LGUI] = KEY_LEFTMETA,
		[SDL_SCANCODE_RCTRL] = KEY_RIGHTCTRL, [SDL_SCANCODE_RSHIFT] = KEY_RIGHTSHIFT,
		[SDL_SCANCODE_RALT] = KEY_RIGHTALT, [SDL_SCANCODE_RGUI] = KEY_RIGHTMETA,
	};

	return (size_t)code < ARRAY_SIZE(usage) ? usage[code] : 0;
}

/* ---- keyboard ---- */

static void flush_keys(struct window *w)
{
	while (w->key_count) {
		struct key_event *e = &w->keys[w->key_head];

		if (!gannet_key(w->machine, e->key, e->down))
			return;
		w->key_head = (w->key_head + 1) % KEYS_MAX;
		w->key_count--;
	}
}

static void send_key(struct window *w, uint8_t key, bool down)
{
	/* A release without its press tells nothing, and one without room for
	 * it must not be: a key would hang. */
	if (!key || w->held[key] == down || (w->key_count == KEYS_MAX))
		return;
	w->held[key] = down;
	w->keys[(w->key_head + w->key_count++) % KEYS_MAX] = (struct key_event){ key, down };
	flush_keys(w);
}

static void release_all(struct window *w)
{
	for (unsigned k = 0; k < ARRAY_SIZE(w->held); k++)
		send_key(w, k, false);
}

static void set_title(struct window *w)
{
	w->sdl.SetWindowTitle(w->window, w->grabbed ? "Gannet - Ctrl-Alt-G frees the mouse" : "Gannet");
}

static void grab(struct window *w, bool on)
{
	w->grabbed = on;
	w->sdl.SetRelativeMouseMode(on ? SDL_TRUE : SDL_FALSE);
	set_title(w);
}

/* Ctrl-Alt-letter is the window's own. */
static bool own_key(struct window *w, const SDL_KeyboardEvent *e)
{
	if (!(e->keysym.mod & KMOD_CTRL) || !(e->keysym.mod & KMOD_ALT))
		return false;
	switch (e->keysym.scancode) {
	case SDL_SCANCODE_G:
		if (e->type == SDL_KEYDOWN)
			grab(w, !w->grabbed);
		return true;
	case SDL_SCANCODE_F:
		if (e->type == SDL_KEYDOWN && !e->repeat) {
			w->fullscreen = !w->fullscreen;
			w->sdl.SetWindowFullscreen(w->window, w->fullscreen ?
						   SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
		}
		return true;
	default:
		return false;
	}
}

/* ---- mouse ---- */

static void mouse_button(struct window *w, const SDL_MouseButtonEvent *e)
{
	unsigned bit = e->button == SDL_BUTTON_LEFT ? 1 : e->button == SDL_BUTTON_RIGHT ? 2 :
		       e->button == SDL_BUTTON_MIDDLE ? 4 : 0;

	if (!w->grabbed) {
		if (e->type == SDL_MOUSEBUTTONDOWN)
			grab(w, true);
		return;
	}
	w->buttons = e->type == SDL_MOUSEBUTTONDOWN ? w->buttons | bit : w->buttons & ~bit;
	gannet_mouse(w->machine, 0, 0, 0, w->buttons);
}

static void handle(struct window *w, const SDL_Event *e)
{
	switch (e->type) {
	case SDL_QUIT:
		gannet_quit(w->machine);
		break;
	case SDL_KEYDOWN:
	case SDL_KEYUP:
		/* The guest's keyboard repeats by itself. */
		if (!own_key(w, &e->key) && !e->key.repeat)
			send_key(w, key_code(e->key.keysym.scancode), e->type == SDL_KEYDOWN);
		break;
	case SDL_MOUSEBUTTONDOWN:
	case SDL_MOUSEBUTTONUP:
		mouse_button(w, &e->button);
		break;
	case SDL_MOUSEMOTION:
		if (w->grabbed)
			gannet_mouse(w->machine, e->motion.xrel, e->motion.yrel, 0, w->buttons);
		break;
	case SDL_MOUSEWHEEL:
		if (w->grabbed)
			gannet_mouse(w->machine, 0, 0, -e->wheel.y, w->buttons);
		break;
	case SDL_WINDOWEVENT:
		w->calls = REDRAW_EVERY;
		w->exposed = true;
		if (e->window.event == SDL_WINDOWEVENT_FOCUS_LOST) {
			release_all(w);
			grab(w, false);
		}
		break;
	}
}

/* ---- picture ---- */

static bool unchanged(struct window *w, const struct gannet_screen *s)
{
	size_t size = s->text ? sizeof(w->shown[0]) * s->cols * s->rows : 0;
	bool same;

	if (size > sizeof(w->shown))
		size = 0;
	same = size && size == w->shown_size && !memcmp(w->shown, s->cells, size) &&
	       s->cursor_col == w->shown_screen.cursor_col &&
	       s->cursor_row == w->shown_screen.cursor_row;
	w->shown_size = size;
	w->shown_screen = *s;
	if (size)
		memcpy(w->shown, s->cells, size);
	return same && ++w->calls < REDRAW_EVERY;
}

static bool resize(struct window *w, unsigned width, unsigned height)
{
	if (w->texture && w->width == width && w->height == height)
		return true;
	if (w->texture)
		w->sdl.DestroyTexture(w->texture);
	w->texture = w->sdl.CreateTexture(w->renderer, SDL_PIXELFORMAT_RGB888,
					  SDL_TEXTUREACCESS_STREAMING, width, height);
	free(w->drawn);
	w->drawn = calloc((size_t)width * height, sizeof(*w->drawn));
	w->width = width;
	w->height = height;
	if (!w->fullscreen)
		w->sdl.SetWindowSize(w->window, width, height);
	w->sdl.RenderSetLogicalSize(w->renderer, width, height);
	w->exposed = true;
	return w->texture != NULL;
}

static void draw(struct window *w)
{
	struct gannet_picture p;
	size_t size;

	w->calls = 0;
	/* Between modes a card may be set to something no monitor could show. */
	if (!gannet_picture(w->machine, &p) || p.width < 64 || p.height < 64 ||
	    !resize(w, p.width, p.height))
		return;
	size = (size_t)p.width * p.height * sizeof(*p.pixels);
	if (w->drawn && !w->exposed && !memcmp(w->drawn, p.pixels, size))
		return;
	if (w->drawn)
		memcpy(w->drawn, p.pixels, size);
	w->exposed = false;
	w->sdl.UpdateTexture(w->texture, NULL, p.pixels, p.width * sizeof(*p.pixels));
	w->sdl.RenderClear(w->renderer);
	w->sdl.RenderCopy(w->renderer, w->texture, NULL, NULL);
	w->sdl.RenderPresent(w->renderer);
}

static void window_show(void *opaque, const struct gannet_screen *s)
{
	struct window *w = opaque;
	SDL_Event e;

	while (w->sdl.PollEvent(&e))
		handle(w, &e);
	flush_keys(w);
	if (!unchanged(w, s))
		draw(w);
}

/* ---- life ---- */

/* For good: what SDL itself loads does not all take being unloaded. */
static bool load_sdl(struct sdl *sdl, char *why, size_t why_size)
{
	void *library = dlopen(SDL_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	bool ok = library != NULL;

#define SDL_LOOK_UP(name) \
	ok = ok && (sdl->name = (typeof(sdl->name))dlsym(library, "SDL_" #name)) != NULL;
	SDL_CALLS(SDL_LOOK_UP)
#undef SDL_LOOK_UP
	if (!ok)
		snprintf(why, why_size, "-display sdl: %s", dlerror());
	if (library)
		dlclose(library);
	return ok;
}

struct window *window_create(struct gannet *g, char *why, size_t why_size)
{
	struct window *w = calloc(1, sizeof(*w));

	if (!w) {
		snprintf(why, why_size, "-display sdl: out of memory");
		return NULL;
	}
	if (!load_sdl(&w->sdl, why, why_size)) {
		free(w);
		return NULL;
	}
	w->machine = g;
	w->sdl.SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
	w->sdl.SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
	if (w->sdl.Init(SDL_INIT_VIDEO))
		goto fail;
	w->window = w->sdl.CreateWindow("Gannet", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED,
					720, 400, SDL_WINDOW_RESIZABLE);
	if (!w->window)
		goto fail;
	w->renderer = w->sdl.CreateRenderer(w->window, -1, 0);
	if (!w->renderer)
		w->renderer = w->sdl.CreateRenderer(w->window, -1, SDL_RENDERER_SOFTWARE);
	if (!w->renderer)
		goto fail;
	gannet_set_display(g, window_show, w);
	return w;
fail:
	snprintf(why, why_size, "-display sdl: %s", w->sdl.GetError());
	w->machine = NULL;
	window_destroy(w);
	return NULL;
}

void window_destroy(struct window *w)
{
	if (!w)
		return;
	if (w->machine)
		gannet_set_display(w->machine, NULL, NULL);
	free(w->drawn);
	if (w->texture)
		w->sdl.DestroyTexture(w->texture);
	if (w->renderer)
		w->sdl.DestroyRenderer(w->renderer);
	if (w->window)
		w->sdl.DestroyWindow(w->window);
	w->sdl.Quit();
	free(w);
}
