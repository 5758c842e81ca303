"""How the page looks. Colours are Okabe and Ito's, for the colour-blind; nothing is said by colour alone."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{--ground:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6570;--rule:#e3e7eb;--line:#0072b2;--bad:#b84a00;
--pause:#8a5a00;--other:#8c4a73;--good:#00785a;--pattern:rgba(255,255,255,.55);--on:#fff}
@media(prefers-color-scheme:dark){:root{--ground:#101317;--card:#191d23;--ink:#e8ebee;--soft:#9aa5b1;--rule:#2c333b;
--line:#56b4e9;--bad:#ff8a4c;--pause:#f0b429;--other:#e39cc4;--good:#3fcf9f;--pattern:rgba(0,0,0,.38);--on:#0d1115}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
header,main,footer{max-width:72rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}footer{padding-bottom:2rem;color:var(--soft);font-size:.85rem}
h1{margin:0;font-size:1.7rem;line-height:1.2;overflow-wrap:anywhere}
h2{margin:0 0 .75rem;font-size:1.1rem}h3{margin:1.25rem 0 .5rem;font-size:.95rem}
p{margin:.4rem 0}.url{color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
.state{padding:.15rem .6rem;border-radius:1rem;border:1px solid currentColor;font-weight:600;font-size:.85rem}
.state[data-state=finished],.state[data-state=running]{color:var(--good)}
.state[data-state=preempted]{color:var(--pause)}
.state[data-state=failed],.state[data-state="gave up"],.state[data-state=silent]{color:var(--bad)}
section{background:var(--card);border:1px solid var(--rule);border-radius:.75rem;padding:1rem;margin:1rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1rem 0}
.tiles>div{background:var(--card);border:1px solid var(--rule);border-radius:.75rem;padding:.75rem 1rem}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.45rem;font-weight:600;line-height:1.3}
dd.note{font-size:.8rem;font-weight:400;color:var(--soft)}
.none,.what{color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}

input[type=radio]{position:absolute;opacity:0;width:1px;height:1px}
.switches{display:flex;flex-wrap:wrap;gap:.5rem .75rem}.switches>div{display:flex;flex-wrap:wrap;gap:3px;
max-width:100%}
.switches label{padding:.4rem .8rem;border:1px solid var(--rule);border-radius:.5rem;cursor:pointer;font-size:.88rem;
user-select:none;max-width:100%;overflow:hidden;text-overflow:ellipsis}
.figures>*{display:none}.has-log>.log{display:none}

.chart{position:relative;margin:.75rem 0 2rem;padding-left:3.4rem;height:20rem}.chart.low{height:12rem}
.plot{position:absolute;inset:0 0 0 3.4rem}
.grid{position:absolute;inset:0 0 0 3.4rem;border-bottom:1px solid var(--soft)}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.grid .y{position:absolute;left:-3.4rem;right:0;height:0;border-top:1px solid var(--rule);font-size:.72rem;
color:var(--soft);line-height:0;white-space:nowrap}
.grid .x{position:absolute;top:100%;transform:translateX(-50%);padding-top:.5rem;font-size:.72rem;color:var(--soft);
white-space:nowrap}
path{fill:none;stroke-linecap:round;stroke-linejoin:round;vector-effect:non-scaling-stroke}
.line{stroke:var(--line);stroke-width:2}
.line.abandoned{stroke-dasharray:1 5;opacity:.7}
.mark{position:absolute;top:0;bottom:0;width:0;border-left:1.5px dashed;font-style:normal;color:var(--bad);z-index:2}
.mark b{position:absolute;top:-.75em;left:-.55em;width:1em;font-size:.8rem;line-height:1;text-align:center}
.mark.preemption{color:var(--pause);border-left-style:dotted}.mark.regrouping{color:var(--other);border-left-style:solid}
.save{position:absolute;bottom:-1px;width:2px;height:9px;margin-left:-1px;background:var(--good);font-style:normal}
.save.failed{background:none;color:var(--bad);width:1em;margin-left:-.5em;height:auto;font-size:.8rem;line-height:1.2;
text-align:center;font-weight:700}
.nonumber{position:absolute;top:.3rem;width:1em;margin-left:-.5em;text-align:center;color:var(--bad);font-style:normal}
.strip{position:absolute;top:0;bottom:0;z-index:1}
.strip i{position:absolute;width:9px;height:9px;margin:0 0 -4.5px -4.5px;border-radius:50%;background:var(--line);
border:2px solid var(--card);opacity:0}
.strip span{position:absolute;top:-1.9rem;padding:.15rem .5rem;border-radius:.4rem;background:var(--ink);
color:var(--card);font-size:.78rem;font-weight:400;white-space:nowrap;display:none;pointer-events:none;z-index:3}
.strip:hover i{opacity:1}.strip:hover span{display:block}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.82rem;color:var(--soft)}
.legend>span{display:inline-flex;align-items:center;gap:.4rem}
.key{position:static;display:inline-block;font-style:normal;margin:0;font-size:.8rem}
.key.line{width:1.5rem;border-top:2px solid var(--line)}
.key.line.abandoned{border-top-style:dotted;border-top-width:3px}
.key.mark{border:0;width:auto}.key.save:not(.failed){width:2px;height:11px}

.bar{display:flex;height:2.4rem;border-radius:.5rem;overflow:hidden;margin:.25rem 0 1rem}
.bar i{display:block;min-width:2px;font-style:normal;font-size:.8rem;line-height:2.4rem;white-space:nowrap;
overflow:hidden}.bar span{margin-left:.5rem;padding:.1rem .45rem;border-radius:.3rem;background:rgba(255,255,255,.85);
color:#000;font-weight:600}
.swatch{display:inline-block;width:1rem;height:1rem;border-radius:.2rem;margin-right:.5rem;vertical-align:-.15rem}
.h-productive{background:#2fb58f}
.h-staging_stall{background:repeating-linear-gradient(90deg,#e69f00 0 5px,var(--pattern) 5px 7px),#e69f00}
.h-restore{background:repeating-linear-gradient(45deg,#56b4e9 0 5px,var(--pattern) 5px 8px),#56b4e9}
.h-restart{background:repeating-linear-gradient(-45deg,#d55e00 0 5px,var(--pattern) 5px 8px),#d55e00}
.h-lost_work{background:repeating-linear-gradient(45deg,var(--pattern) 0 2px,transparent 2px 6px),
repeating-linear-gradient(-45deg,var(--pattern) 0 2px,transparent 2px 6px),#cc79a7}
.h-waiting{background:radial-gradient(circle,var(--pattern) 1.5px,transparent 2px) 0 0/7px 7px,#f0e442}
.h-startup{background:repeating-linear-gradient(0deg,#4a90c8 0 4px,var(--pattern) 4px 6px),#4a90c8}
.h-away{background:repeating-linear-gradient(45deg,#9aa0a6 0 10px,var(--pattern) 10px 12px),#9aa0a6}

table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
tbody th{font-weight:500;overflow-wrap:anywhere}tfoot th,tfoot td{font-weight:700;border-bottom:0}
thead th{color:var(--soft);font-weight:500;font-size:.8rem}
.number{text-align:right;white-space:nowrap;padding-right:0}.means{color:var(--soft)}tfoot .means{font-weight:400}
.number+.number{padding-left:.75rem}
.causes{max-width:40rem}.costs{width:60%}.cost{display:block;height:.8rem;margin-top:.35rem;border-radius:.2rem;
background:repeating-linear-gradient(-45deg,var(--bad) 0 5px,var(--pattern) 5px 7px),var(--bad)}
.dot{position:absolute;width:1em;margin:0 0 -.5em -.5em;text-align:center;line-height:1;font-style:normal;
font-size:.72rem}
.dot.key{position:static;width:auto;margin:0}
.dot.stall{color:var(--pause)}.dot.persist{color:var(--line)}.dot.failed{color:var(--bad)}
.kind{color:var(--bad);font-weight:600;font-size:.82rem;overflow-wrap:anywhere}small{display:block;color:var(--soft)}
code,pre{font:.85em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{margin:.4rem 0 0;padding:.6rem;background:var(--ground);border-radius:.4rem;overflow-x:auto;white-space:pre-wrap}
summary{cursor:pointer;color:var(--line);font-size:.85rem;width:max-content}
td div{min-width:0}time{white-space:nowrap}.lines{padding-left:1.2rem;overflow-wrap:anywhere;font-size:.9rem}

@media(max-width:44rem){
header,main,footer{padding-left:.75rem;padding-right:.75rem}section{padding:.85rem}
.tiles{grid-template-columns:1fr 1fr}.grid .x.wide{display:none}.chart{height:15rem}.means{display:none}
.cards thead{display:none}.cards,.cards tbody{display:block}
.cards tr{display:block;border:1px solid var(--rule);border-radius:.5rem;padding:.4rem .75rem;margin-bottom:.6rem}
.cards td{display:grid;grid-template-columns:6.5rem minmax(0,1fr);border:0;padding:.2rem 0}
.cards td::before{content:attr(data-label);color:var(--soft);font-size:.82rem}
}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
