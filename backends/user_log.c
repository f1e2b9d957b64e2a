/* Keeps libslirp's messages, which GLib would print, from stderr: a library never
 * prints. Apart from user.c because GLib's MIN and MAX are not ours. */
#include <glib.h>

#include "backends/user_priv.h"

static void ignore(const gchar *domain, GLogLevelFlags level, const gchar *text, gpointer opaque)
{
	(void)domain;
	(void)level;
	(void)text;
	(void)opaque;
}

unsigned user_log_quiet(void)
{
	return g_log_set_handler("Slirp", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL |
				 G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG,
				 ignore, NULL);
}

void user_log_loud(unsigned handle)
{
	if (handle)
		g_log_remove_handler("Slirp", handle);
}
