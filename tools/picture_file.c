/* See picture_file.h. PPM: netpbm's ppm(5), the raw kind; PNG by libpng. */
#include "tools/picture_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config.h"
#include "core/util.h"

#if HAVE_PNG
#include <png.h>
#endif

/* Red, green, blue, as both formats have them. */
static uint8_t *to_bytes(const struct gannet_picture *p)
{
	size_t n = (size_t)p->width * p->height;
	uint8_t *rgb = malloc(MAX(n * 3, 1));

	for (size_t i = 0; rgb && i < n; i++) {
		rgb[i * 3] = p->pixels[i] >> 16;
		rgb[i * 3 + 1] = p->pixels[i] >> 8;
		rgb[i * 3 + 2] = p->pixels[i];
	}
	return rgb;
}

static bool write_png(FILE *f, const struct gannet_picture *p, const uint8_t *rgb,
		      struct error *err)
{
#if HAVE_PNG
	png_image image = {
		.version = PNG_IMAGE_VERSION, .width = p->width, .height = p->height,
		.format = PNG_FORMAT_RGB,
	};

	if (png_image_write_to_stdio(&image, f, 0, rgb, 0, NULL))
		return true;
	error_set(err, "%s", image.message);
	return false;
#else
	(void)f, (void)p, (void)rgb;
	error_set(err, "this gannet was built without libpng; use a name that ends in .ppm");
	return false;
#endif
}

static bool write_all(FILE *f, const char *path, const struct gannet_picture *p,
		      const uint8_t *rgb, struct error *err)
{
	size_t len = strlen(path), bytes = (size_t)p->width * p->height * 3;

	if (len > 4 && !strcasecmp(path + len - 4, ".png")) {
		if (!write_png(f, p, rgb, err))
			return false;
	} else {
		fprintf(f, "P6\n%u %u\n255\n", p->width, p->height);
		fwrite(rgb, 1, bytes, f);
	}
	if (!fflush(f) && !ferror(f))
		return true;
	error_set(err, "%s", strerror(errno));
	return false;
}

bool picture_file_write(const char *path, const struct gannet_picture *p, struct error *err)
{
	uint8_t *rgb = to_bytes(p);
	char *part = NULL;
	FILE *f = NULL;
	bool ok = false;

	if (!rgb || asprintf(&part, "%s.part", path) < 0) {
		part = NULL;
		error_set(err, "out of memory");
		goto out;
	}
	f = fopen(part, "we");
	if (f)
		ok = write_all(f, path, p, rgb, err);
	else
		error_set(err, "%s", strerror(errno));
	if (f && fclose(f) && ok) {
		error_set(err, "%s", strerror(errno));
		ok = false;
	}
	if (ok && rename(part, path)) {
		error_set(err, "%s", strerror(errno));
		ok = false;
	}
	if (f && !ok)
		unlink(part);
out:
	if (!ok)
		error_prefix(err, "%s", path);
	free(part);
	free(rgb);
	return ok;
}
