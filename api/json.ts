/** What the service answers, for those who print the same without one: nothing of a server is loaded with it. */
export { type ImportReportJson, importToJson } from './import-json.js'
export { metaToJson, quarantineToJson, spoolStateToJson } from './message-json.js'
export { escapeText, META_FORMATS, type MetaFormat, renderMeta } from './meta-render.js'
