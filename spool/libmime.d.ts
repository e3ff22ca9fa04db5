declare module 'libmime' {
  interface HeaderValue {
    value: string | false
    params: Record<string, string>
  }
  const libmime: {
    /** A structured header (RFC 2045), its parameters decoded (RFC 2231). */
    parseHeaderValue(text: string): HeaderValue
    /** Encoded words (RFC 2047). */
    decodeWords(text: string): string
  }
  export default libmime
}
