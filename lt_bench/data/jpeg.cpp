// A part of a JPEG by libjpeg-turbo: columns outside are not transformed, rows below not even read.
//
// At the edges of a part the colours of subsampled images would miss their neighbours, so that a margin goes with it.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <csetjmp>
#include <vector>

#include <jpeglib.h>

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or later is needed"
#endif

namespace {

constexpr unsigned kBytes = 4; // of a pixel

struct Errors {
  jpeg_error_mgr base;
  std::jmp_buf end;
};

[[noreturn]] void leave(j_common_ptr info) { std::longjmp(reinterpret_cast<Errors *>(info->err)->end, 1); }

void count(j_common_ptr info, int level) {
  if (level < 0) ++info->err->num_warnings;
}

// Whether the pixels are those of Pillow's RGB, which converts CMYK and its kin by itself.
bool usual(const jpeg_decompress_struct &info) {
  return info.jpeg_color_space == JCS_YCbCr || info.jpeg_color_space == JCS_GRAYSCALE || info.jpeg_color_space == JCS_RGB;
}

void read(jpeg_decompress_struct &info, unsigned *part, std::vector<uint8_t> &out) {
  info.out_color_space = JCS_EXT_RGBX;
  jpeg_start_decompress(&info);
  const unsigned margin = DCTSIZE * info.max_h_samp_factor; // a block of the most subsampled colours
  JDIMENSION left = part[0] > margin ? part[0] - margin : 0;
  JDIMENSION width = part[0] + part[2] + margin - left;
  if (left + width > info.output_width) width = info.output_width - left;
  if (width < info.output_width) jpeg_crop_scanline(&info, &left, &width);
  const std::size_t row = std::size_t(width) * kBytes;
  out.resize(row * part[3]);
  if (part[1] > 0) jpeg_skip_scanlines(&info, part[1]);
  while (info.output_scanline < part[1] + part[3]) {
    JSAMPROW line = out.data() + row * (info.output_scanline - part[1]);
    jpeg_read_scanlines(&info, &line, 1);
  }
  part[0] = left, part[2] = width;
}

} // namespace

extern "C" {

// Pixels of 4 bytes of the `part` left, top, width, height of a file of that width and height; nullptr where anything is
// odd. More columns than asked for: `part` says which they are. Valid until the thread's next call.
const uint8_t *decode(const uint8_t *data, std::size_t size, unsigned width, unsigned height, unsigned *part) {
  thread_local std::vector<uint8_t> out;
  jpeg_decompress_struct info;
  Errors errors;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = leave;
  errors.base.emit_message = count;
  jpeg_create_decompress(&info);
  bool good = false;
  if (setjmp(errors.end) == 0) {
    jpeg_mem_src(&info, data, size);
    jpeg_read_header(&info, TRUE);
    if (usual(info) && info.image_width == width && info.image_height == height) {
      read(info, part, out);
      good = errors.base.num_warnings == 0;
    }
  }
  jpeg_destroy_decompress(&info);
  return good ? out.data() : nullptr;
}

} // extern "C"
