/*
 * fractals - draws one recursive fractal, a rosette of branches, as a picture.
 *
 *     fractals -o OUT -q Q -d D -m M
 *
 * Six stems leave the centre. Every branch carries five smaller ones: three at
 * its tip, two shorter ones at its middle, and so on, M levels deep. So a
 * picture has 6 * (5^(M+1) - 1) / 4 branches: one more level is five times
 * the work. Each branch leaves light on the canvas; how much light fell on a
 * pixel decides how bright it gets, from which levels it came decides its hue.
 *
 * Nothing but the C library and libm is needed:
 *     cc -O2 -o fractals fractals.c -lm
 *
 * Exit codes: 0 the picture is written, 1 it could not be, 2 wrong arguments.
 */
#define _POSIX_C_SOURCE 200809L /* getopt, fileno, strcasecmp */

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_IO = 1, EXIT_USAGE = 2 };

/* What the options may be. A row of MAX_SIDE pixels must fit one stored
 * deflate block (65,535 bytes); see write_png. */
static const double MIN_RATIO = 0.1, MAX_RATIO = 0.9;
enum { MIN_SIDE = 16, MAX_SIDE = 4096, MAX_DEPTH = 14 };

enum { STEMS = 6, CHILDREN = 5, TIP_CHILDREN = 3, PALETTE = 1024 };

static const double PI = 3.14159265358979323846;

struct options {
    const char *out;
    double ratio; /* -q: length of a branch, in lengths of its parent */
    int side;     /* -d: width and height of the picture, in pixels */
    int depth;    /* -m: levels of branches above the stems */
};

/* Linear light, not yet a colour on a screen. */
struct light {
    float red, green, blue;
};

/* How one child leaves its parent. */
struct sprout {
    double cosine, sine; /* of the turn away from the parent's direction */
    double ratio;        /* its length, in lengths of the parent */
    double start;        /* where on the parent: 0 at the root, 1 at the tip */
    double tint;         /* 0..1, shifts the hue of it and all above it */
};

struct branch {
    double x, y;   /* root, in pixels */
    double dx, dy; /* from root to tip, in pixels */
    double length; /* of (dx, dy); carried along, as it saves a square root */
    double tint;   /* 0..1, a mix of the tints of all its ancestors */
    int level;     /* 0 for a stem */
};

struct drawing {
    int side, depth;
    struct light *canvas; /* side * side pixels, top row first */
    struct light palette[PALETTE];
    struct sprout sprouts[CHILDREN];
    double glow[MAX_DEPTH + 1]; /* light per pixel of length, by level */
    double hue[MAX_DEPTH + 1];  /* palette position, by level */
    double exposure;            /* turns light into brightness; see expose */
    unsigned long long branches;
};

/* ---- messages and arguments ------------------------------------------- */

static const char USAGE[] =
    "usage: fractals -o OUT -q Q -d D -m M\n"
    "\n"
    "Draw a recursive fractal as a picture.\n"
    "\n"
    "  -o OUT  the file to write; its name ends with .png or .ppm\n"
    "  -q Q    shape: a branch is Q times as long as its parent, 0.1 to 0.9\n"
    "  -d D    width and height of the picture in pixels, 16 to 4096\n"
    "  -m M    levels of recursion, 0 to 14; each takes five times as long\n"
    "          as the one before (7: an instant, 10: seconds, 12: minutes)\n"
    "  -h      show this help\n";

static void complain(const char *format, va_list values)
{
    fputs("fractals: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
}

static void usage_error(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    complain(format, values);
    va_end(values);
    fputs("Try 'fractals -h' for help.\n", stderr);
    exit(EXIT_USAGE);
}

static void io_error(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    complain(format, values);
    va_end(values);
    exit(EXIT_IO);
}

static double parse_ratio(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    /* Written so that "nan" fails it too. */
    if (end == text || *end != '\0' || !(value >= MIN_RATIO && value <= MAX_RATIO))
        usage_error("-q: '%s' is not a number from %g to %g", text, MIN_RATIO, MAX_RATIO);
    return value;
}

static int parse_whole(char option, const char *text, int low, int high)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < low || value > high)
        usage_error("-%c: '%s' is not a whole number from %d to %d", option, text, low, high);
    return (int)value;
}

static int has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), wanted = strlen(suffix);
    return length > wanted && strcasecmp(name + length - wanted, suffix) == 0;
}

static struct options parse_arguments(int argc, char **argv)
{
    struct options options = {NULL, 0, 0, 0};
    const char *needed = "oqdm";
    char given[256] = {0};
    int option;

    opterr = 0; /* the messages are ours */
    while ((option = getopt(argc, argv, ":o:q:d:m:h")) != -1) {
        if (option == 'h') {
            fputs(USAGE, stdout);
            exit(EXIT_SUCCESS);
        }
        if (option == ':')
            usage_error("-%c needs a value", optopt);
        if (option == '?')
            usage_error("there is no option '-%c'", optopt);
        if (given[option]++)
            usage_error("-%c is given twice", option);
        switch (option) {
        case 'o': options.out = optarg; break;
        case 'q': options.ratio = parse_ratio(optarg); break;
        case 'd': options.side = parse_whole('d', optarg, MIN_SIDE, MAX_SIDE); break;
        case 'm': options.depth = parse_whole('m', optarg, 0, MAX_DEPTH); break;
        }
    }
    if (optind < argc)
        usage_error("'%s' is one argument too many", argv[optind]);
    for (; *needed; needed++)
        if (!given[(unsigned char)*needed])
            usage_error("-%c is missing", *needed);
    if (!has_suffix(options.out, ".png") && !has_suffix(options.out, ".ppm"))
        usage_error("-o: the name '%s' ends with neither .png nor .ppm", options.out);
    return options;
}

/* ---- the fractal ------------------------------------------------------- */

/* A wheel of colours: three cosines, one per channel, a third of a turn apart. */
static void mix_palette(struct light *palette)
{
    for (int i = 0; i < PALETTE; i++) {
        double turn = 2 * PI * i / PALETTE;
        palette[i].red = (float)(0.58 + 0.42 * cos(turn));
        palette[i].green = (float)(0.44 + 0.36 * cos(turn - 2 * PI * 0.36));
        palette[i].blue = (float)(0.58 + 0.42 * cos(turn - 2 * PI * 0.64));
    }
}

/* The shape of the whole. Larger ratios open the fork wider too: the crowns
 * grow from loose twigs over a hexagon to a dense star. */
static void plan_sprouts(struct drawing *drawing, double ratio)
{
    double fork = (30 + 150 * ratio * ratio) * PI / 180;
    double turns[CHILDREN] = {0, -fork, fork, -fork, fork};
    const double FADE = 0.8;
    double total = 0;

    for (int i = 0; i < CHILDREN; i++) {
        struct sprout *sprout = &drawing->sprouts[i];
        int at_tip = i < TIP_CHILDREN;
        sprout->cosine = cos(turns[i]);
        sprout->sine = sin(turns[i]);
        sprout->ratio = at_tip ? ratio : 0.6 * ratio;
        sprout->start = at_tip ? 1.0 : 0.5;
        sprout->tint = (double)i / (CHILDREN - 1);
        total += sprout->ratio;
    }
    for (int level = 0; level <= drawing->depth; level++) {
        /* All branches of a level together are `total` times as long as those
         * of the level below. Divided by it, every level gives nearly the
         * same light in all, and the first ones stay visible. */
        drawing->glow[level] = pow(FADE / total, level);
        drawing->hue[level] = 0.08 + 2.2 * ratio + 0.085 * level;
    }
}

/* Let light fall on the point (x, y), shared by the four pixels around it. */
static void shine(struct drawing *drawing, double x, double y, float amount,
                  const struct light *colour)
{
    int side = drawing->side;
    int left = (int)floor(x - 0.5), top = (int)floor(y - 0.5);
    if (left < 0 || top < 0 || left + 1 >= side || top + 1 >= side)
        return;
    float right_part = (float)(x - 0.5 - left), low_part = (float)(y - 0.5 - top);
    float parts[4] = {(1 - right_part) * (1 - low_part), right_part * (1 - low_part),
                      (1 - right_part) * low_part, right_part * low_part};
    struct light *first = drawing->canvas + (size_t)top * side + left;
    struct light *pixels[4] = {first, first + 1, first + side, first + side + 1};
    for (int i = 0; i < 4; i++) {
        float share = amount * parts[i];
        pixels[i]->red += share * colour->red;
        pixels[i]->green += share * colour->green;
        pixels[i]->blue += share * colour->blue;
    }
}

static void draw_branch(struct drawing *drawing, const struct branch *branch)
{
    double hue = drawing->hue[branch->level] + 0.15 * branch->tint;
    const struct light *colour = &drawing->palette[(int)(hue * PALETTE) % PALETTE];
    int points = branch->length > 0.5 ? (int)ceil(2 * branch->length) : 1;
    float amount = (float)(drawing->glow[branch->level] * branch->length / points);

    for (int i = 0; i < points; i++) {
        double along = (i + 0.5) / points;
        shine(drawing, branch->x + along * branch->dx, branch->y + along * branch->dy, amount,
              colour);
    }
    drawing->branches++;
}

/* Draw a branch and, recursively, all that it carries. */
static void grow(struct drawing *drawing, const struct branch *branch)
{
    draw_branch(drawing, branch);
    if (branch->level == drawing->depth)
        return;
    for (int i = 0; i < CHILDREN; i++) {
        const struct sprout *sprout = &drawing->sprouts[i];
        struct branch child = {
            .x = branch->x + sprout->start * branch->dx,
            .y = branch->y + sprout->start * branch->dy,
            .dx = sprout->ratio * (sprout->cosine * branch->dx - sprout->sine * branch->dy),
            .dy = sprout->ratio * (sprout->sine * branch->dx + sprout->cosine * branch->dy),
            .length = sprout->ratio * branch->length,
            .tint = 0.5 * (branch->tint + sprout->tint),
            .level = branch->level + 1,
        };
        grow(drawing, &child);
    }
}

/* Choose the exposure by the average light, as a camera does. */
static void expose(struct drawing *drawing)
{
    size_t pixels = (size_t)drawing->side * drawing->side;
    const double EXPOSED_AVERAGE = 8;
    double sum = 0;
    for (size_t i = 0; i < pixels; i++)
        sum += drawing->canvas[i].red + drawing->canvas[i].green + drawing->canvas[i].blue;
    drawing->exposure = EXPOSED_AVERAGE * 3 * (double)pixels / sum;
}

static void draw(struct drawing *drawing, const struct options *options)
{
    size_t pixels = (size_t)options->side * options->side;
    drawing->side = options->side;
    drawing->depth = options->depth;
    drawing->branches = 0;
    drawing->canvas = calloc(pixels, sizeof *drawing->canvas);
    if (drawing->canvas == NULL)
        io_error("no memory for a picture of %d x %d pixels", options->side, options->side);
    mix_palette(drawing->palette);
    plan_sprouts(drawing, options->ratio);

    /* A stem and its straight line of children, 1 + Q + Q^2 + ... of its
     * lengths, reach the rim at most: the whole always fits the picture. */
    double length = 0.48 * options->side * (1 - options->ratio);
    for (int i = 0; i < STEMS; i++) {
        double angle = 2 * PI * i / STEMS - PI / 2;
        struct branch stem = {
            .x = options->side / 2.0,
            .y = options->side / 2.0,
            .dx = length * cos(angle),
            .dy = length * sin(angle),
            .length = length,
            .tint = 0.5,
            .level = 0,
        };
        grow(drawing, &stem);
    }
    expose(drawing);
}

/* ---- light to bytes ---------------------------------------------------- */

static unsigned char to_byte(double brightness)
{
    return (unsigned char)(brightness >= 1 ? 255 : brightness * 255 + 0.5);
}

/* Fill `row` with the 3 * side bytes (red, green, blue) of row y. */
static void develop_row(const struct drawing *drawing, int y, unsigned char *row)
{
    static const double SKY[3] = {0.07, 0.055, 0.15};
    static const double WHITE = 110; /* light, in exposed units, that shows as white */
    static const double GAMMA = 1.25, VIVID = 1.3; /* how mid tones and colours are lifted */
    int side = drawing->side;

    for (int x = 0; x < side; x++) {
        const struct light *pixel = &drawing->canvas[(size_t)y * side + x];
        double channels[3] = {pixel->red, pixel->green, pixel->blue};
        double light = (channels[0] + channels[1] + channels[2]) / 3;
        /* Light spans many powers of ten; a logarithm shows the faint and
         * the bright parts in one picture. */
        double exposed = drawing->exposure * light;
        double bright = exposed > 0 ? pow(log1p(exposed) / log1p(WHITE), 1 / GAMMA) : 0;
        /* A night sky behind it, darker towards the corners. */
        double from_centre = hypot(x - 0.5 * side, y - 0.5 * side) / side;
        double sky = 1 - 1.2 * from_centre;
        for (int i = 0; i < 3; i++) {
            double shown = bright > 0 ? bright * pow(channels[i] / light, VIVID) : 0;
            row[3 * x + i] = to_byte(1 - (1 - fmin(1, shown)) * (1 - SKY[i] * sky));
        }
    }
}

/* ---- PPM and PNG ------------------------------------------------------- */

/* Both writers stop at the row that cannot be written, with the reason in
 * errno, and leave the rest to finish_file: the stream remembers the failure.
 * `row` has room for 3 * side bytes. */

static void write_ppm(FILE *file, const struct drawing *drawing, unsigned char *row)
{
    fprintf(file, "P6\n%d %d\n255\n", drawing->side, drawing->side);
    for (int y = 0; y < drawing->side && !ferror(file); y++) {
        develop_row(drawing, y, row);
        fwrite(row, 3, (size_t)drawing->side, file);
    }
}

/* A PNG chunk is written in pieces; this is its checksum so far. */
struct chunk {
    FILE *file;
    uint32_t crc;
};

static void put_big_endian(FILE *file, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        putc((int)(value >> shift & 0xff), file);
}

static void chunk_bytes(struct chunk *chunk, const void *bytes, size_t count)
{
    static uint32_t table[256];
    const unsigned char *next = bytes;

    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            table[i] = i;
            for (int bit = 0; bit < 8; bit++)
                table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
        }
    fwrite(bytes, 1, count, chunk->file);
    while (count--)
        chunk->crc = table[(chunk->crc ^ *next++) & 0xff] ^ chunk->crc >> 8;
}

static struct chunk open_chunk(FILE *file, const char *type, size_t count)
{
    struct chunk chunk = {file, 0xffffffffu};
    put_big_endian(file, (uint32_t)count);
    chunk_bytes(&chunk, type, 4);
    return chunk;
}

static void close_chunk(const struct chunk *chunk)
{
    put_big_endian(chunk->file, ~chunk->crc);
}

static uint32_t adler32(uint32_t sum, const unsigned char *bytes, size_t count)
{
    uint32_t low = sum & 0xffff, high = sum >> 16;
    while (count--) {
        low = (low + *bytes++) % 65521;
        high = (high + low) % 65521;
    }
    return high << 16 | low;
}

static void store_big_endian(unsigned char *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* An 8-bit RGB PNG. The rows are one zlib stream of stored (uncompressed)
 * blocks, a block and an IDAT chunk to each row, so that nothing needs to be
 * held in memory and no library is needed. */
static void write_png(FILE *file, const struct drawing *drawing, unsigned char *row)
{
    static const unsigned char SIGNATURE[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const unsigned char ZLIB_HEADER[2] = {0x78, 0x01};
    static const unsigned char NO_FILTER[1] = {0};
    unsigned char header[13] = {0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0}; /* 8 bits, RGB */
    size_t row_bytes = 3 * (size_t)drawing->side, block = 1 + row_bytes;
    uint32_t sum = 1;
    struct chunk chunk;

    fwrite(SIGNATURE, 1, sizeof SIGNATURE, file);
    store_big_endian(header, (uint32_t)drawing->side);
    store_big_endian(header + 4, (uint32_t)drawing->side);
    chunk = open_chunk(file, "IHDR", sizeof header);
    chunk_bytes(&chunk, header, sizeof header);
    close_chunk(&chunk);

    for (int y = 0; y < drawing->side && !ferror(file); y++) {
        int first = y == 0, last = y == drawing->side - 1;
        unsigned char stored[5] = {(unsigned char)last, block & 0xff, (unsigned char)(block >> 8),
                                   ~block & 0xff, (unsigned char)(~block >> 8 & 0xff)};
        chunk = open_chunk(file, "IDAT", (first ? 2 : 0) + sizeof stored + block + (last ? 4 : 0));
        if (first)
            chunk_bytes(&chunk, ZLIB_HEADER, sizeof ZLIB_HEADER);
        chunk_bytes(&chunk, stored, sizeof stored);
        develop_row(drawing, y, row);
        chunk_bytes(&chunk, NO_FILTER, 1);
        chunk_bytes(&chunk, row, row_bytes);
        sum = adler32(adler32(sum, NO_FILTER, 1), row, row_bytes);
        if (last) {
            unsigned char trailer[4];
            store_big_endian(trailer, sum);
            chunk_bytes(&chunk, trailer, sizeof trailer);
        }
        close_chunk(&chunk);
    }
    chunk = open_chunk(file, "IEND", 0);
    close_chunk(&chunk);
}

/* Close the file; a full disk may show up as late as here. What is left of a
 * failed picture is removed, unless it is a device or a pipe. */
static void finish_file(FILE *file, const char *name)
{
    struct stat facts;
    int regular = fstat(fileno(file), &facts) == 0 && S_ISREG(facts.st_mode);
    int failed = ferror(file) || fflush(file) != 0;
    int reason = errno;
    if (fclose(file) != 0 && !failed) {
        failed = 1;
        reason = errno;
    }
    if (!failed)
        return;
    if (regular)
        remove(name);
    io_error("cannot write '%s': %s", name, strerror(reason));
}

int main(int argc, char **argv)
{
    struct options options = parse_arguments(argc, argv);
    static struct drawing drawing;
    static unsigned char row[3 * MAX_SIDE];

    /* Opened before the work: a bad name should not cost minutes. */
    FILE *file = fopen(options.out, "wb");
    if (file == NULL)
        io_error("cannot write '%s': %s", options.out, strerror(errno));
    draw(&drawing, &options);
    if (has_suffix(options.out, ".png"))
        write_png(file, &drawing, row);
    else
        write_ppm(file, &drawing, row);
    finish_file(file, options.out);
    free(drawing.canvas);

    printf("%s: %d x %d pixels, %llu branches\n", options.out, drawing.side, drawing.side,
           drawing.branches);
    if (fflush(stdout) != 0)
        io_error("cannot write to standard output: %s", strerror(errno));
    return EXIT_SUCCESS;
}
